package portolan

import (
	"errors"
	"net"
	"os"
	"sync"
	"syscall"
)

// tailed is a relayed connection whose first bytes came with the answer.
type tailed struct {
	net.Conn
	mutex sync.Mutex
	tail  []byte
}

func (t *tailed) Read(p []byte) (int, error) {
	t.mutex.Lock()
	if len(t.tail) > 0 {
		defer t.mutex.Unlock()
		n := copy(p, t.tail)
		t.tail = t.tail[n:]
		return n, nil
	}
	t.mutex.Unlock()
	return t.Conn.Read(p)
}

// CloseWrite ends what is sent to the node, which may still answer.
func (t *tailed) CloseWrite() error { return t.Conn.(*net.UnixConn).CloseWrite() }

// rightsReader reads a socket and keeps the first descriptor that comes along.
type rightsReader struct {
	socket     *net.UnixConn
	descriptor *os.File
}

func (r *rightsReader) Read(p []byte) (int, error) {
	control := make([]byte, syscall.CmsgSpace(4))
	n, controls, _, _, err := r.socket.ReadMsgUnix(p, control)
	if controls > 0 {
		r.keep(control[:controls])
	}
	if n == 0 && err == nil {
		return r.socket.Read(p) // the end of the stream, in the words of Read
	}
	return n, err
}

func (r *rightsReader) keep(control []byte) {
	messages, err := syscall.ParseSocketControlMessage(control)
	if err != nil {
		return
	}
	for i := range messages {
		descriptors, err := syscall.ParseUnixRights(&messages[i])
		if err != nil {
			continue
		}
		for _, descriptor := range descriptors {
			syscall.CloseOnExec(descriptor)
			if r.descriptor == nil {
				r.descriptor = os.NewFile(uintptr(descriptor), "portolan")
			} else {
				syscall.Close(descriptor)
			}
		}
	}
}

// conn is the connection that was handed off.
func (r *rightsReader) conn() (net.Conn, error) {
	if r.descriptor == nil {
		return nil, errors.New("the descriptor did not arrive: is the limit of descriptors reached?")
	}
	return net.FileConn(r.descriptor) // it has a descriptor of its own
}

// Close closes the descriptor, which conn has duplicated.
func (r *rightsReader) Close() {
	if r.descriptor != nil {
		r.descriptor.Close()
	}
}
