package cli

import (
	"context"
	"fmt"
	"io/fs"
	"strings"

	"github.com/spf13/cobra"

	"github.com/posthorn/webhook/sqlstore"
)

// migration is what migrate has done, or would do.
type migration struct {
	Dialect string   `json:"dialect"`
	Prefix  string   `json:"prefix"`
	DryRun  bool     `json:"dry_run"`
	From    int      `json:"from"`
	To      int      `json:"to"`
	Files   []string `json:"files"`
}

func (p Program) migrateCommand() *cobra.Command {
	var (
		flags          databaseFlags
		dryRun, asJSON bool
	)
	cmd := takesNoFiles(&cobra.Command{
		Use:   "migrate",
		Short: "Make the tables of a database, or bring them up to date",
		Long: `Makes the tables of a database, or brings them to the version that this release
needs. It is safe to run at any time, and in several places at once: one does the
work, the others wait for it. Tables of a later release are left as they are.

` + dsnHelp + `
For SQLite the settings that the library needs are set, and the file is made if
there is none. Webhooks' secrets are neither read nor written.

` + exitCodes,
		Example: `  POSTHORN_DSN=postgres://me@db.example/app posthorn migrate --dry-run
  posthorn migrate --dsn sqlite:app.db`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			src, err := p.source(flags, !dryRun)
			if err != nil {
				return err
			}
			m, err := p.runMigrate(cmd.Context(), src, flags.prefix, dryRun)
			if err != nil {
				return err
			}
			if asJSON {
				if err := writeJSON(p.Stdout, m); err != nil {
					return failed("%w", err)
				}
				return nil
			}
			return p.say("%s\n", oneLine(src.place+": "+m.text()))
		},
	})
	flags.add(cmd)
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "say what would be done, and do nothing")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON document")
	return cmd
}

func (p Program) runMigrate(ctx context.Context, src source, prefix string, dryRun bool) (m migration, err error) {
	m = migration{Dialect: string(src.dialect), Prefix: prefix, DryRun: dryRun, Files: []string{}}
	files, err := fs.Glob(sqlstore.Migrations(src.dialect), "*.sql")
	if err != nil {
		return m, failed("%w", err)
	}
	if dryRun && src.missing() { // to look into it would make it
		m.To, m.Files = len(files), files
		return m, nil
	}
	end := p.waiting("migrating " + oneLine(src.place))
	defer end()
	store, closeDB, err := src.store(ctx, prefix)
	if err != nil {
		return m, err
	}
	defer closeDB()
	if m.From, err = store.SchemaVersion(ctx); err != nil {
		return m, failed("%s: %w", src.place, err)
	}
	if m.To = max(m.From, len(files)); !dryRun {
		if err := store.Migrate(ctx); err != nil {
			return m, failed("%s: %w", src.place, err)
		}
		if m.To, err = store.SchemaVersion(ctx); err != nil {
			return m, failed("%s: %w", src.place, err)
		}
	}
	m.Files = append(m.Files, files[min(m.From, len(files)):min(m.To, len(files))]...)
	return m, nil
}

// text is the migration in words.
func (m migration) text() string {
	tables := "the tables " + m.Prefix + "…"
	switch list := strings.Join(m.Files, ", "); {
	case m.From == m.To:
		return fmt.Sprintf("%s have version %d, nothing to do", tables, m.To)
	case m.DryRun:
		return fmt.Sprintf("%s would go from version %d to %d: %s", tables, m.From, m.To, list)
	default:
		return fmt.Sprintf("%s went from version %d to %d: %s", tables, m.From, m.To, list)
	}
}
