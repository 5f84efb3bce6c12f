package badgerstore

import (
	"syscall"
	"unsafe"
)

// diskSpace returns the bytes that the volume of path has for us, and in all,
// or -1.
func diskSpace(path string) (free, size int64) {
	name, err := syscall.UTF16PtrFromString(path)
	if err != nil {
		return -1, -1
	}
	var ours, all uint64
	proc := syscall.NewLazyDLL("kernel32.dll").NewProc("GetDiskFreeSpaceExW")
	ok, _, _ := proc.Call(uintptr(unsafe.Pointer(name)), uintptr(unsafe.Pointer(&ours)), uintptr(unsafe.Pointer(&all)), 0)
	if ok == 0 {
		return -1, -1
	}
	return int64(ours), int64(all)
}

// diskFiles says that nothing is known.
func diskFiles(string) (left int64, readOnly bool) { return -1, false }
