package sqlstore_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthorn/webhook"
	"github.com/posthorn/webhook/sqlstore"
)

func TestKeyringRules(t *testing.T) {
	t.Parallel()
	good := bytes.Repeat([]byte{7}, 32)
	for name, tc := range map[string]struct {
		keys  []sqlstore.Key
		field string
	}{
		"NoID":      {[]sqlstore.Key{{Bytes: good}}, "keys[0].id"},
		"ColonInID": {[]sqlstore.Key{{ID: "a:b", Bytes: good}}, "keys[0].id"},
		"LongID":    {[]sqlstore.Key{{ID: strings.Repeat("a", 33), Bytes: good}}, "keys[0].id"},
		"TwiceID":   {[]sqlstore.Key{{ID: "a", Bytes: good}, {ID: "a", Bytes: good}}, "keys[1].id"},
		"ShortKey":  {[]sqlstore.Key{{ID: "a", Bytes: good}, {ID: "b", Bytes: good[:16]}}, "keys[1].bytes"},
		"LongKey":   {[]sqlstore.Key{{ID: "a", Bytes: append(good, 1)}}, "keys[0].bytes"},
		"NoKey":     {[]sqlstore.Key{{ID: "a"}}, "keys[0].bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := sqlstore.NewKeyring(tc.keys[0], tc.keys[1:]...)
			requireField(t, err, tc.field)
		})
	}
	_, err := sqlstore.NewKeyring(sqlstore.Key{ID: "2026-11_a", Bytes: good}, sqlstore.Key{ID: strings.Repeat("b", 32), Bytes: good})
	require.NoError(t, err)
}

func TestParseKeyring(t *testing.T) {
	t.Parallel()
	key := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32))
	k, err := sqlstore.ParseKeyring("new:" + key + ", old:" + key)
	require.NoError(t, err)
	require.Equal(t, "keyring of 2, first new", k.String())
	for text, field := range map[string]string{
		"":                        "keys[0]",
		key:                       "keys[0]",
		"a:" + key + ",":          "keys[1]",
		"a:" + key[:40]:           "keys[0].bytes",
		"a:" + key + ",b:" + "??": "keys[1]",
		"a:" + key + ",a:" + key:  "keys[1].id",
	} {
		_, err := sqlstore.ParseKeyring(text)
		requireField(t, err, field)
		require.NotContains(t, err.Error(), "BwcHBwc")
	}
}

// A keyring that lands in a log does not say its keys.
func TestKeyringDoesNotPrintItsKeys(t *testing.T) {
	t.Parallel()
	k, err := sqlstore.NewKeyring(sqlstore.Key{ID: "a", Bytes: []byte("thirty-two characters, as we say")})
	require.NoError(t, err)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		require.Equal(t, "keyring of 1, first a", fmt.Sprintf(verb, k))
	}
}

func requireField(t *testing.T, err error, field string) {
	t.Helper()
	var faults webhook.ValidationErrors
	require.ErrorAs(t, err, &faults)
	require.Equal(t, field, faults[0].Field)
}
