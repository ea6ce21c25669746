// Package portolan connects to nodes by name, through the portolan daemon on this machine. Linux, standard library only.
//
// A Dialer fits where programs take a function that dials:
//
//	dialer := &portolan.Dialer{}
//	client := http.Client{Transport: &http.Transport{DialContext: dialer.DialContext}}
//	conn, err := grpc.NewClient("passthrough:///orders@prod", grpc.WithContextDialer(dialer.Connect), ...)
//
// In a URL an @ ends the user, so a name with one is given to Connect:
//
//	transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
//		return dialer.Connect(ctx, "orders@prod")
//	}
package portolan

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Dialer asks the daemon. The zero value is ready to use, by several goroutines at once.
type Dialer struct {
	// Socket is the path of the daemon's socket. If it is empty, it is $PORTOLAN_SOCKET, else the first of
	// /run/portolan/portolan.sock and $XDG_RUNTIME_DIR/portolan/portolan.sock on which somebody listens.
	Socket string

	// Handoff asks for the connection itself, a *net.TCPConn that does not pass through the daemon. Where the daemon
	// can't give it, such as over a route with TLS, the connection is relayed as it is without Handoff.
	Handoff bool
}

// DialContext connects to the node that addr names; it fits http.Transport.DialContext. A ":digits" at the end of addr
// is dropped if no other colon outside brackets stands before it, because the route knows the port. The network must be
// one of TCP.
//
// The context's deadline is the daemon's, too; when the context ends, the daemon ends the dial.
func (d *Dialer) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	if !strings.HasPrefix(network, "tcp") {
		return nil, net.UnknownNetworkError(network)
	}
	return d.Connect(ctx, withoutPort(addr))
}

// Connect connects to the node with exactly this name; it fits grpc.WithContextDialer. See DialContext for the context.
//
// The connection has a CloseWrite, relayed or not. A refusal is an *Error.
func (d *Dialer) Connect(ctx context.Context, node string) (net.Conn, error) {
	conn, err := d.ask(ctx, node, d.Handoff)
	var refused *Error
	if d.Handoff && errors.As(err, &refused) && refused.Code == "no_handoff" {
		return d.ask(ctx, node, false)
	}
	return conn, err
}

func (d *Dialer) ask(ctx context.Context, node string, handoff bool) (net.Conn, error) {
	socket, err := d.open(ctx)
	if err != nil {
		return nil, err
	}
	release := abortWith(ctx, socket)
	conn, err := exchange(ctx, socket, node, handoff)
	// Nothing of the context's may reach a connection that outlives it.
	release()
	if err != nil || handoff {
		socket.Close()
	}
	if err == nil {
		return conn, nil
	}
	if ctx.Err() != nil && !errors.As(err, new(*Error)) {
		err = ctx.Err() // it is why the socket failed
	}
	return nil, fmt.Errorf("portolan: connect to %q: %w", node, err)
}

// open opens the first of the sockets on which somebody listens.
func (d *Dialer) open(ctx context.Context) (*net.UnixConn, error) {
	var dialer net.Dialer
	var first error
	for _, path := range d.sockets() {
		conn, err := dialer.DialContext(ctx, "unix", path)
		if err == nil {
			return conn.(*net.UnixConn), nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, fmt.Errorf("portolan: no daemon there: %w", first)
}

func (d *Dialer) sockets() []string {
	const name = "portolan/portolan.sock"
	if d.Socket != "" {
		return []string{d.Socket}
	}
	if named := os.Getenv("PORTOLAN_SOCKET"); named != "" {
		return []string{named}
	}
	sockets := []string{filepath.Join("/run", name)}
	if folder := os.Getenv("XDG_RUNTIME_DIR"); folder != "" {
		sockets = append(sockets, filepath.Join(folder, name))
	}
	return sockets
}

// abortWith makes reads and writes of conn fail once the context ends, until release is called.
func abortWith(ctx context.Context, conn net.Conn) (release func()) {
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		select {
		case <-ctx.Done():
			conn.SetDeadline(time.Unix(1, 0))
		case <-stop:
		}
	}()
	return func() {
		close(stop)
		<-stopped
		conn.SetDeadline(time.Time{})
	}
}

// exchange asks for the node and reads the answer.
func exchange(ctx context.Context, socket *net.UnixConn, node string, handoff bool) (net.Conn, error) {
	// A daemon that is full may answer and close before it reads: its answer is what counts, not this error.
	io.WriteString(socket, head(ctx, node, handoff))
	rights := &rightsReader{socket: socket}
	defer rights.Close()
	reader := bufio.NewReader(rights)
	answer, err := http.ReadResponse(reader, &http.Request{Method: "GET"})
	if err != nil {
		return nil, fmt.Errorf("what listens there is no portolan daemon, or it is broken: %w", err)
	}
	if answer.StatusCode != http.StatusSwitchingProtocols {
		return nil, refusal(answer)
	}
	if handoff {
		if answer.Header.Get("Portolan-Handoff") != "1" {
			return nil, errors.New("the daemon connected without a hand-off")
		}
		return rights.conn()
	}
	tail, _ := reader.Peek(reader.Buffered())
	if len(tail) == 0 {
		return socket, nil
	}
	return &tailed{Conn: socket, tail: tail}, nil
}

func head(ctx context.Context, node string, handoff bool) string {
	var query []string
	if deadline, ok := ctx.Deadline(); ok {
		query = append(query, fmt.Sprintf("deadline=%dus", patience(time.Until(deadline)).Microseconds()))
	}
	if handoff {
		query = append(query, "handoff=1")
	}
	mark := ""
	if len(query) > 0 {
		mark = "?"
	}
	return "GET /v1/connect/" + url.PathEscape(node) + mark + strings.Join(query, "&") + " HTTP/1.1\r\n" +
		"Host: portolan\r\nConnection: Upgrade\r\nUpgrade: portolan-tunnel\r\n\r\n"
}

// patience is what the daemon is told of the time that is left: a little less, so that its answer, which names each
// attempt, is here before the context ends. The daemon takes 1 us to 1 h.
func patience(left time.Duration) time.Duration {
	margin := left / 10
	if margin > 20*time.Millisecond {
		margin = 20 * time.Millisecond
	}
	left -= margin
	if left < time.Microsecond {
		return time.Microsecond
	}
	if left > time.Hour {
		return time.Hour
	}
	return left
}

// withoutPort follows the daemon's rule for CONNECT: "fd00::1" keeps its last group, "[fd00::1]:4370" loses its port.
func withoutPort(addr string) string {
	colon := strings.LastIndexByte(addr, ':')
	if colon < 0 || colon == len(addr)-1 || strings.Trim(addr[colon+1:], "0123456789") != "" {
		return addr
	}
	bracketed := false
	for _, c := range addr[:colon] {
		switch {
		case c == '[':
			bracketed = true
		case c == ']':
			bracketed = false
		case c == ':' && !bracketed:
			return addr
		}
	}
	if bracketed {
		return addr
	}
	return addr[:colon]
}

// Error is a refusal of the daemon.
type Error struct {
	Status       int       `json:"status"`        // the HTTP status
	Code         string    `json:"code"`          // what programs tell refusals apart by: no_route, all_failed, busy, ...
	Detail       string    `json:"detail"`        // one sentence for people
	Node         string    `json:"node"`          // the node that was asked for
	Attempts     []Attempt `json:"attempts"`      // the failed attempts, in their order
	MoreAttempts int       `json:"more_attempts"` // how many were made beyond those
}

// Attempt is one failed attempt of the daemon to reach the node.
type Attempt struct {
	Match   string `json:"match"`   // the pattern of the route
	Node    string `json:"node"`    // the node that it was to reach
	Address string `json:"address"` // the address that was dialed
	Stage   string `json:"stage"`   // how far it came: dns, tcp, tls
	Error   string `json:"error"`   // why it came no further
	Ms      int64  `json:"ms"`      // how long it took, in milliseconds
}

func (e *Error) Error() string { return "refused: " + e.Detail }

// Timeout tells whether the time was over before a connection was up.
func (e *Error) Timeout() bool { return e.Status == http.StatusGatewayTimeout }

// Temporary tells whether the same may be granted a little later: the daemon is busy, or is being restarted.
func (e *Error) Temporary() bool { return e.Status == http.StatusServiceUnavailable }

func refusal(answer *http.Response) error {
	refused := new(Error)
	err := json.NewDecoder(io.LimitReader(answer.Body, 1<<20)).Decode(refused)
	if err != nil || refused.Code == "" {
		return fmt.Errorf("what listens there is no portolan daemon: it answered with the HTTP status %s", answer.Status)
	}
	return refused
}
