package torture

import "github.com/flagstone-shm/flagstone/conformance/internal/testee"

// peer is a running testee.
type peer interface {
	SendAll(lines []string) []call
	Kill() error
	Stop() error
	Continue() error
	End() error
	Close()
	Stderr() string
}

// call is a command that was sent.
type call interface {
	Wait() (testee.Answer, error)
}

// process is a testee in a process of its own.
type process struct{ *testee.Testee }

func (p process) SendAll(lines []string) []call {
	calls := make([]call, len(lines))
	for i, c := range p.Testee.SendAll(lines) {
		calls[i] = c
	}
	return calls
}

// Stop gives up when the process ends instead.
func (p process) Stop() error {
	stopped := make(chan error, 1)
	go func() { stopped <- p.Testee.Stop() }()
	select {
	case err := <-stopped:
		return err
	case <-p.Gone():
		return testee.ErrGone
	}
}

func start(p testee.Program) (peer, error) {
	t, err := testee.Start(p, 0)
	if err != nil {
		return nil, err
	}
	return process{t}, nil
}
