package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// cpuClock tells how much CPU time something has used so far, user and system.
type cpuClock func() (time.Duration, error)

// cpuUse is CPU time, or what was used of it in between.
type cpuUse struct {
	sender, receiver time.Duration
	database         time.Duration // 0 if the store works inside the sender
}

func (u cpuUse) minus(before cpuUse) cpuUse {
	return cpuUse{u.sender - before.sender, u.receiver - before.receiver, u.database - before.database}
}

// sending is what it costs to send: without the receiver.
func (u cpuUse) sending() time.Duration { return u.sender + u.database }

// cpu reads the three clocks. That of the database is nil if there is none.
func (b *bench) cpu(database cpuClock) (u cpuUse, err error) {
	a, err := b.receiver.ask(question{})
	if err != nil {
		return u, err
	}
	u.receiver = a.CPU
	if database != nil {
		if u.database, err = database(); err != nil {
			return u, err
		}
	}
	u.sender, err = ownCPU()
	return u, err
}

// ownCPU is the clock of this process.
func ownCPU() (time.Duration, error) {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return 0, fmt.Errorf("getrusage: %w", err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano()), nil
}

// tick is the unit of /proc's CPU times: Linux shows 100 of them a second on
// every architecture.
const tick = 10 * time.Millisecond

// process is what /proc/PID/stat says of a process.
type process struct {
	command  string
	parent   int
	own      time.Duration
	children time.Duration // those that have ended and been waited for
}

func readProcess(pid int) (process, error) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return process{}, err
	}
	return parseProcess(string(text))
}

// parseProcess reads proc_pid_stat(5). The command is in parentheses, and may
// contain any.
func parseProcess(stat string) (p process, err error) {
	open, end := strings.IndexByte(stat, '('), strings.LastIndexByte(stat, ')')
	if open < 0 || end < open {
		return p, errors.New("/proc stat: no command")
	}
	p.command = stat[open+1 : end]
	const parent, utime, stime, cutime, cstime = 1, 11, 12, 13, 14 // counted from the state
	fields := strings.Fields(stat[end+1:])
	if len(fields) <= cstime {
		return p, errors.New("/proc stat: too short")
	}
	value := func(i int) int64 {
		n, e := strconv.ParseInt(fields[i], 10, 64)
		if e != nil {
			err = fmt.Errorf("/proc stat: %w", e)
		}
		return n
	}
	p.parent = int(value(parent))
	p.own = time.Duration(value(utime)+value(stime)) * tick
	p.children = time.Duration(value(cutime)+value(cstime)) * tick
	return p, err
}

// processCPU is the clock of one process.
func processCPU(pid int) cpuClock {
	return func() (time.Duration, error) {
		p, err := readProcess(pid)
		return p.own, err
	}
}

// familyCPU is the clock of a process and its children, as in PostgreSQL, where
// a child serves each connection. The time of one that ends goes over to what
// the parent keeps of its ended children, so that nothing is lost; if that
// happens while we look, we look again.
func familyCPU(parent int) cpuClock {
	return func() (time.Duration, error) {
		for range 100 {
			before, err := readProcess(parent)
			if err != nil {
				return 0, err
			}
			living, err := childrenCPU(parent)
			if err != nil {
				return 0, err
			}
			after, err := readProcess(parent)
			if err != nil {
				return 0, err
			}
			if after.children == before.children {
				return after.own + after.children + living, nil
			}
		}
		return 0, fmt.Errorf("the children of process %d come and go too fast to add up their CPU time", parent)
	}
}

func childrenCPU(parent int) (sum time.Duration, err error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue // not a process
		}
		p, err := readProcess(pid)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // it has ended
		}
		if err != nil {
			return 0, err
		}
		if p.parent == parent {
			sum += p.own + p.children
		}
	}
	return sum, nil
}
