package adminui

import (
	"strconv"
	"strings"

	"github.com/posthorn/webhook"
)

// curl returns a shell script that sends a delivery's payload once more, by hand,
// signed for the moment at which it runs. The secret comes from the environment: the
// panel does not know it.
func curl(url string, cfg Config, d webhook.Delivery) string {
	number := strconv.Itoa(max(1, d.Attempts))
	return strings.Join([]string{
		"# export WEBHOOK_SECRET=whsec_… first",
		"body=" + quoted(string(d.Payload)),
		"now=$(date +%s)",
		`key=$(printf %s "${WEBHOOK_SECRET#whsec_}" | base64 -d | od -An -v -tx1 | tr -d ' \n')`,
		`hex=$(printf %s "$body" | openssl dgst -sha256 -hmac "$WEBHOOK_SECRET" | sed 's/^.*= *//')`,
		`std=$(printf %s "` + d.EventID.String() + `.$now.$body" | openssl dgst -sha256 -mac HMAC -macopt "hexkey:$key" -binary | base64)`,
		`printf %s "$body" | curl --globoff --include --data-binary @- \`,
		`  --header 'Content-Type: application/json' \`,
		`  --header ` + quoted("User-Agent: "+cfg.UserAgent) + ` \`,
		`  --header 'X-Pivot-Attempt: ` + number + `' \`,
		`  --header ` + quoted(cfg.SignatureHeader+": ") + `"$hex" \`,
		`  --header 'webhook-id: ` + d.EventID.String() + `' \`,
		`  --header "webhook-timestamp: $now" \`,
		`  --header "webhook-signature: v1,$std" \`,
		`  ` + quoted(url),
	}, "\n") + "\n"
}

// quoted is a text as one word of a shell.
func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
