//go:build !linux && !darwin

package badgerstore

import "os"

func flockShared(*os.File) error { return nil }
