package cli

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/posthorn/webhook"
)

const secretVariable = "POSTHORN_SECRET"

// secretFlags say where secrets come from.
type secretFlags struct {
	texts []string
	file  string
}

func (f *secretFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.file, "secret-file", "", "`file` with the secret, one a line; instead of "+secretVariable)
	cmd.Flags().StringArrayVar(&f.texts, "secret", nil, "the `secret`; other users of the machine can see it, so rather "+secretVariable)
	cmd.MarkFlagsMutuallyExclusive("secret", "secret-file")
	completeWith(cmd, "secret")
}

// secrets returns what the flags, or else the environment, say.
func (p Program) secrets(f secretFlags) (secrets []webhook.Secret, err error) {
	from, texts := "--secret", f.texts
	switch {
	case f.file != "":
		from = "--secret-file"
		text, err := os.ReadFile(f.file)
		if err != nil {
			return nil, failed("--secret-file: %w", err)
		}
		for line := range strings.Lines(string(text)) {
			if line = strings.TrimRight(line, "\r\n"); line != "" {
				texts = append(texts, line)
			}
		}
		if len(texts) == 0 {
			return nil, wrongUsage(from, "has no secret in it")
		}
	case texts == nil:
		from = secretVariable
		texts = strings.Fields(p.Getenv(secretVariable))
		if len(texts) == 0 {
			return nil, wrongUsage("secret", "is required: set "+secretVariable+", or name a file with --secret-file")
		}
	}
	for _, text := range texts {
		secret, err := webhook.ParseSecret(text)
		if err != nil {
			return nil, faultsOf(err, map[string]string{"secret": from})
		}
		secrets = append(secrets, secret)
	}
	return secrets, nil
}

// secret is secrets for who signs.
func (p Program) secret(f secretFlags) (webhook.Secret, error) {
	secrets, err := p.secrets(f)
	if err != nil {
		return webhook.Secret{}, err
	}
	if len(secrets) != 1 {
		return webhook.Secret{}, wrongUsage("secret", fmt.Sprintf("must be one, to sign with; there are %d", len(secrets)))
	}
	return secrets[0], nil
}
