package integration

import "os"

// Long says that time does not matter: POSTHORN_LONG is 1.
var Long = os.Getenv("POSTHORN_LONG") == "1"
