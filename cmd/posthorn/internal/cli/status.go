package cli

import "github.com/spf13/cobra"

func (p Program) statusCommand() *cobra.Command { return takesNoFiles(&cobra.Command{Use: "status"}) }
