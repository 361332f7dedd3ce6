package webhook

// crew are goroutines that make attempts. One that is done waits for the next
// attempt, because starting anew for each would grow the same stack each time.
// There are never more than were needed at once.
type crew struct {
	jobs      chan job
	dismissed chan struct{}
}

// job is a flight, and what is done with its landing.
type job struct {
	flight *flight
	landed func(landing)
}

func newCrew() *crew { return &crew{jobs: make(chan job), dismissed: make(chan struct{})} }

// dismiss ends goroutines that wait, and the others when they are done. Nobody
// waits for jobs after that.
func (c *crew) dismiss() { close(c.dismissed) }

// launch makes an attempt, gives away what became of it and frees its slot, in
// this order, so that whoever waits for free slots finds all that was given.
func (d *Dispatcher) launch(f *flight, landed func(landing)) {
	d.slots.begin(f)
	j := job{f, landed}
	crew := d.crew.Load()
	if crew == nil { // Run does not run
		go d.do(j)
		return
	}
	select {
	case crew.jobs <- j:
	default:
		go func() {
			for {
				d.do(j)
				select {
				case j = <-crew.jobs:
				case <-crew.dismissed:
					return
				}
			}
		}()
	}
}

func (d *Dispatcher) do(j job) {
	var l landing // of a flight that broke off: nothing, and the lease runs out
	defer func() {
		if p := recover(); p != nil {
			d.logPanic("Logger or Clock", p)
		}
		j.landed(l)
		d.land(j.flight, l.verdict)
	}()
	l = d.fly(j.flight)
}
