package badgerstore

import (
	"syscall"
	"unsafe"
)

// freeSpace returns the bytes that the volume of path has for us, or -1.
func freeSpace(path string) int64 {
	name, err := syscall.UTF16PtrFromString(path)
	if err != nil {
		return -1
	}
	var free uint64
	proc := syscall.NewLazyDLL("kernel32.dll").NewProc("GetDiskFreeSpaceExW")
	ok, _, _ := proc.Call(uintptr(unsafe.Pointer(name)), uintptr(unsafe.Pointer(&free)), 0, 0)
	if ok == 0 {
		return -1
	}
	return int64(free)
}
