package portolan

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"testing"
	"time"
)

// daemon is a Dialer of a daemon that knows the nodes echo@x, greeter@x (speaks first), web (HTTP), dead@x (refuses), tls@x (refuses,
// under TLS) and silent@x (a SYN to it gets no answer). `cargo test clients` starts one.
func daemon(t *testing.T, handoff bool) *Dialer {
	socket := os.Getenv("PORTOLAN_TEST_SOCKET")
	if socket == "" {
		t.Skip("PORTOLAN_TEST_SOCKET is not set: run `cargo test clients`")
	}
	return &Dialer{Socket: socket, Handoff: handoff}
}

func connect(t *testing.T, dialer *Dialer, node string) net.Conn {
	t.Helper()
	conn, err := dialer.Connect(context.Background(), node)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func TestBytesAndHalfClose(t *testing.T) {
	for _, handoff := range []bool{false, true} {
		for node, greeting := range map[string]string{"echo@x": "", "greeter@x": "greeter\n"} {
			conn := connect(t, daemon(t, handoff), node)
			if _, tcp := conn.(*net.TCPConn); tcp != handoff {
				t.Errorf("handoff %v: the connection is a %T", handoff, conn)
			}
			if _, err := io.WriteString(conn, "question"); err != nil {
				t.Fatal(err)
			}
			if err := conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			said, err := io.ReadAll(conn)
			if err != nil || string(said) != greeting+"question" {
				t.Errorf("handoff %v, %s: it said %q, %v", handoff, node, said, err)
			}
		}
	}
}

func TestTransport(t *testing.T) {
	for _, handoff := range []bool{false, true} {
		transport := &http.Transport{DialContext: daemon(t, handoff).DialContext, DisableKeepAlives: true}
		answer, err := (&http.Client{Transport: transport}).Get("http://web/")
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(answer.Body)
		if string(body) != "ok" {
			t.Errorf("handoff %v: %q", handoff, body)
		}
	}
}

func TestRefusal(t *testing.T) {
	_, err := daemon(t, false).Connect(context.Background(), "dead@x")
	var refused *Error
	if !errors.As(err, &refused) {
		t.Fatal(err)
	}
	if refused.Code != "all_failed" || refused.Node != "dead@x" || len(refused.Attempts) != 1 ||
		refused.Attempts[0].Stage != "tcp" || refused.Attempts[0].Error != "connection refused" || refused.Timeout() {
		t.Errorf("%+v", refused)
	}
}

func TestWhatCannotBeHandedOffIsRelayed(t *testing.T) {
	var refused *Error
	_, err := daemon(t, true).ask(context.Background(), "tls@x", true)
	if !errors.As(err, &refused) || refused.Code != "no_handoff" {
		t.Error(err)
	}
	// It was tried, so it was asked for without hand-off.
	_, err = daemon(t, true).Connect(context.Background(), "tls@x")
	if !errors.As(err, &refused) || refused.Code != "all_failed" {
		t.Error(err)
	}
}

func TestTheDeadlineIsTheDaemonsToo(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_, err := daemon(t, true).Connect(ctx, "silent@x")
	var timeout net.Error
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Error(err)
	}
}

func TestCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	dialer, ended := daemon(t, false), make(chan error)
	go func() {
		_, err := dialer.Connect(ctx, "silent@x")
		ended <- err
	}()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestNobodyThere(t *testing.T) {
	_, err := (&Dialer{Socket: t.TempDir() + "/none"}).Connect(context.Background(), "a")
	if !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	_, err = new(Dialer).DialContext(context.Background(), "udp", "a:1")
	if !errors.As(err, new(net.UnknownNetworkError)) {
		t.Error(err)
	}
}

func TestPortsAreDropped(t *testing.T) {
	for addr, node := range map[string]string{
		"prod-db@10.0.1.50:0": "prod-db@10.0.1.50",
		"prod-db@10.0.1.50":   "prod-db@10.0.1.50",
		"a@b:":                "a@b:",
		"a@b:x1":              "a@b:x1",
		"a:1:2":               "a:1:2",
		"fd00::1":             "fd00::1",
		"[fd00::1]:4370":      "[fd00::1]",
		"x@[fd00::1]:4370":    "x@[fd00::1]",
		"[fd00::1]":           "[fd00::1]",
		"[fd00::1":            "[fd00::1",
	} {
		if got := withoutPort(addr); got != node {
			t.Errorf("%s: %s, not %s", addr, got, node)
		}
	}
}
