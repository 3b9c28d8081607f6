// Calls of go-libvirt over a unix socket, each with its values and error. Usage: client SOCKET DEFINITION
package main

import (
	"fmt"
	"net"
	"os"
	"time"

	"github.com/digitalocean/go-libvirt"
)

var count int

func line(name string, values ...interface{}) {
	count++
	fmt.Println(append([]interface{}{name}, values...)...)
}

func main() {
	xml, err := os.ReadFile(os.Args[2])
	if err != nil {
		panic(err)
	}
	connection, err := net.DialTimeout("unix", os.Args[1], 5*time.Second)
	if err != nil {
		panic(err)
	}
	l := libvirt.New(connection)
	if err := l.ConnectToURI("test:///default"); err != nil {
		panic(err)
	}
	version, err := l.ConnectGetLibVersion()
	line("version", version, err)
	kind, err := l.ConnectGetType()
	line("type", kind, err)
	name, err := l.ConnectGetHostname()
	line("hostname", name, err)
	text, err := l.ConnectGetCapabilities()
	line("capabilities", text, err)
	_, err = l.DomainLookupByName("missing")
	line("lookup", err)
	_, err = l.DomainDefineXML("<domain/>")
	line("define", err)
	guest, err := l.DomainDefineXML(string(xml))
	line("define", guest.Name, err)
	text, err = l.DomainGetXMLDesc(guest, 0)
	line("XML", text, err)
	state, reason, err := l.DomainGetState(guest, 0)
	line("state", state, reason, err)
	line("create", l.DomainCreate(guest))
	line("create", l.DomainCreate(guest))
	state, reason, err = l.DomainGetState(guest, 0)
	line("state", state, reason, err)
	line("destroy", l.DomainDestroy(guest))
	line("undefine", l.DomainUndefine(guest))
	line("undefine", l.DomainUndefine(guest))
	networks, _, err := l.ConnectListAllNetworks(1, 0)
	line("networks", networks, err)
	line("disconnect", l.Disconnect())
	fmt.Println(count, "calls")
}
