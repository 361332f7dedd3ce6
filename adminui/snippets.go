package adminui

import (
	"embed"
	"strings"
)

// The snippets are those of docs/receivers.md, and a receiver in Go, which is compiled.
//
//go:embed snippets/verify.mjs snippets/verify.py snippets/verify.sh snippets/receive/main.go
var snippetFiles embed.FS

// snippet is code that verifies requests, ready to be copied.
type snippet struct{ ID, Language, File, Hint, Code string }

// snippetsFor returns the snippets with the real name of the header.
func snippetsFor(header string) ([]snippet, error) {
	list := []snippet{
		{"go", "Go", "snippets/receive/main.go", "A whole receiver: it takes the secret from the environment.", ""},
		{"node", "Node.js", "snippets/verify.mjs", "Save it as verify.mjs. It needs the body as it came: in Express, express.raw({ type: \"application/json\" }).", ""},
		{"python", "Python", "snippets/verify.py", "For Python 3.9 or later, with the bytes of the body as they came.", ""},
		{"shell", "Shell", "snippets/verify.sh", "To look at one request by hand. Other users of the machine see the secret in the list of processes.", ""},
	}
	rename := strings.NewReplacer(defaultSignatureHeader, header, strings.ToLower(defaultSignatureHeader), strings.ToLower(header))
	for i := range list {
		code, err := snippetFiles.ReadFile(list[i].File)
		if err != nil {
			return nil, err
		}
		list[i].Code = rename.Replace(string(code))
	}
	return list, nil
}
