package helm

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	core "k8s.io/api/core/v1"
)

// How long anything may take that should be done soon.
const patience = 30 * time.Second

// process is one that ends with its test.
type process struct {
	t       *testing.T
	name    string
	command *exec.Cmd
	log     string
	ended   chan struct{}
}

// start runs a program in the background; what it says is shown if the test fails.
func start(t *testing.T, name string, arguments ...string) *process {
	t.Helper()
	return launch(t, exec.Command(name, arguments...))
}

func launch(t *testing.T, command *exec.Cmd) *process {
	t.Helper()
	name := filepath.Base(command.Path)
	log, err := os.Create(filepath.Join(t.TempDir(), name+".log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	command.Stdout, command.Stderr = log, log
	// It dies with the test program, however that ends, and so do its own children.
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	started := &process{t, name, command, log.Name(), make(chan struct{})}
	go func() {
		_ = command.Wait()
		close(started.ended)
	}()
	t.Cleanup(func() {
		_ = syscall.Kill(-command.Process.Pid, syscall.SIGKILL)
		<-started.ended
		if t.Failed() {
			t.Logf("%s said:\n%s", name, read(t, log.Name()))
		}
	})
	return started
}

func (p *process) alive() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// end asks it to stop, and returns its exit status.
func (p *process) end(within time.Duration) int {
	p.t.Helper()
	if err := p.command.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
	select {
	case <-p.ended:
	case <-time.After(within):
		p.t.Fatalf("%s does not end within %s", p.name, within)
	}
	return p.command.ProcessState.ExitCode()
}

// eventually tries until there is no error.
func eventually(t *testing.T, what string, try func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s: %v", patience, what, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}

// ask makes a request on a connection of its own, as every new pod of a client would.
func ask(method, url, body string, headers ...string) (*http.Response, string, error) {
	timeout, stop := context.WithTimeout(context.Background(), patience)
	defer stop()
	request, err := http.NewRequestWithContext(timeout, method, url, strings.NewReader(body))
	if err != nil {
		return nil, "", err
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	transport := &http.Transport{DisableKeepAlives: true}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return nil, "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return response, string(text), err
}

func status(url string) (int, error) {
	response, _, err := ask("GET", url, "")
	if err != nil {
		return 0, err
	}
	return response.StatusCode, nil
}

func expect(url string, wanted int) error {
	found, err := status(url)
	if err == nil && found != wanted {
		err = fmt.Errorf("%s answers %d", url, found)
	}
	return err
}

// redis starts a server without a file, and returns its address.
func redis(t *testing.T) string {
	t.Helper()
	port := freePort(t)
	start(t, program(t, "REDIS_SERVER_BIN", "redis-server"),
		"--port", fmt.Sprint(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", t.TempDir())
	address := fmt.Sprintf("127.0.0.1:%d", port)
	eventually(t, "redis", func() error {
		connection, err := net.Dial("tcp", address)
		if err != nil {
			return err
		}
		defer connection.Close()
		_, err = connection.Write([]byte("PING\r\n"))
		if err != nil {
			return err
		}
		answer := make([]byte, 5)
		_, err = io.ReadFull(connection, answer)
		if err == nil && string(answer) != "+PONG" {
			err = fmt.Errorf("%q", answer)
		}
		return err
	})
	return address
}

// node is one that runs with what the chart has rendered.
type node struct {
	*process
	port, metrics int
}

// configured is pollux.toml with other values for some options, which it has to have.
func configured(t *testing.T, toml string, pairs ...string) string {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		line := regexp.MustCompile(`(?m)^` + pairs[i] + ` = .*$`)
		if len(line.FindAllString(toml, -1)) != 1 {
			t.Fatalf("not one %s in\n%s", pairs[i], toml)
		}
		toml = line.ReplaceAllLiteralString(toml, pairs[i]+" = "+pairs[i+1])
	}
	return toml
}

// runNode starts the container's command line with its pollux.toml, on free ports.
func runNode(t *testing.T, container core.Container, toml, id string) node {
	t.Helper()
	started := node{port: freePort(t), metrics: freePort(t)}
	path := filepath.Join(t.TempDir(), "pollux.toml")
	write(t, path, configured(t, toml, "host", `"127.0.0.1"`, "port", fmt.Sprint(started.port), "metrics_port", fmt.Sprint(started.metrics)))
	command := exec.Command(program(t, "POLLUX_BIN", "pollux"), containerArguments(t, container, path)...)
	command.Env = []string{"POLLUX_NODE_ID=" + id}
	started.process = launch(t, command)
	return started
}

// containerArguments are those of the container, with another path for its file.
func containerArguments(t *testing.T, container core.Container, path string) []string {
	t.Helper()
	joined := replaced(t, strings.Join(container.Args, "\n"), "/etc/pollux/config/pollux.toml", path)
	return strings.Split(joined, "\n")
}

func (n node) url(path string) string { return fmt.Sprintf("http://127.0.0.1:%d%s", n.port, path) }

// metric is the value of one without labels.
func (n node) metric(name string) (string, error) {
	_, text, err := ask("GET", fmt.Sprintf("http://127.0.0.1:%d/metrics", n.metrics), "")
	if err != nil {
		return "", err
	}
	found := regexp.MustCompile(`(?m)^` + name + ` (.*)$`).FindStringSubmatch(text)
	if found == nil {
		return "", fmt.Errorf("no %s in\n%s", name, text)
	}
	return found[1], nil
}
