//go:build linux

package study

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// tmpfsVariable makes the test binary run TestTinyDisk in a namespace of its own, where it may mount.
const tmpfsVariable = "ECADX_STUDY_TEST_TMPFS"

// TestTinyDisk fills a real file system: a tmpfs of 1 MiB, on which less and less room is left. The search stops with ENOSPC, loses nothing, and
// goes on when there is room.
func TestTinyDisk(t *testing.T) {
	dir := os.Getenv(tmpfsVariable)
	if dir == "" {
		c := exec.Command(os.Args[0], "-test.run=^TestTinyDisk$", "-test.v")
		c.Env = append(os.Environ(), tmpfsVariable+"="+t.TempDir())
		c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}, GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}}
		out, err := c.CombinedOutput()
		var exit *exec.ExitError
		switch {
		case err == nil:
			t.Logf("%s", out)
		case errors.As(err, &exit) && exit.ExitCode() == 1:
			t.Fatalf("%s", out)
		default:
			t.Skipf("SKIP: no file system can be mounted here: %v", err)
		}
		return
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		fmt.Println(err)
		os.Exit(77) // the parent skips
	}
	want, _, images := whole(t)
	stopped := 0
	for room := 0; room < 160; room += 4 { // KiB
		at := filepath.Join(dir, fmt.Sprint(room))
		filler := filepath.Join(dir, "filler")
		writeFile(t, filler, make([]byte, (1024-room)<<10))
		first := &synthetic{}
		_, err := runStudy(at, testOptions(), smallSearch(t), first)
		if err == nil {
			break
		}
		stopped++
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("%d KiB of room: %v", room, err)
		}
		os.Remove(filler)
		again := &synthetic{}
		got, err := runStudy(at, testOptions(), smallSearch(t), again)
		if err != nil {
			t.Fatalf("%d KiB, room again: %v", room, err)
		}
		sameFront(t, fmt.Sprintf("%d KiB of room", room), got, want)
		if n := first.images + again.images; n > images+first.largest {
			t.Fatalf("%d KiB of room: %d images, %d undisturbed", room, n, images)
		}
		os.RemoveAll(at)
	}
	if stopped < 5 {
		t.Fatalf("the disk was full %d times", stopped)
	}
	t.Logf("the disk was full %d times", stopped)
}
