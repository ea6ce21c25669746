// The proxy that one would write in Go in an afternoon: io.Copy both ways, which splices where the kernel can.
package main

import (
	"io"
	"log"
	"net"
	"os"
)

type halfCloser interface {
	net.Conn
	CloseWrite() error
}

func main() {
	if len(os.Args) != 4 {
		log.Fatal("go-proxy UNIX TCP UPSTREAM")
	}
	unix, err := net.Listen("unix", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	tcp, err := net.Listen("tcp", os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	go serve(unix, os.Args[3])
	serve(tcp, os.Args[3])
}

func serve(listener net.Listener, upstream string) {
	for {
		client, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go relay(client.(halfCloser), upstream)
	}
}

// Go sets TCP_NODELAY by itself.
func relay(client halfCloser, address string) {
	defer client.Close()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	upstream := conn.(halfCloser)
	defer upstream.Close()
	up := make(chan struct{})
	go func() {
		_, _ = io.Copy(upstream, client)
		_ = upstream.CloseWrite()
		close(up)
	}()
	_, _ = io.Copy(client, upstream)
	_ = client.CloseWrite()
	<-up
}
