// Package examples runs the examples in Go of README and docs, as they stand there.
package examples

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	// The examples import it; here it is what go.mod is told by.
	_ "github.com/redis/go-redis/v9"
)

// How long anything may take that should be done soon.
const patience = 30 * time.Second

// block is the one of a page with a line that begins so. A page that has lost it fails its test.
func block(t *testing.T, page, line string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", page))
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	// What is outside of blocks and what is inside take turns.
	for number, part := range strings.Split("\n"+string(text), "\n```") {
		_, code, _ := strings.Cut(part, "\n")
		if number%2 == 1 && strings.Contains("\n"+code, "\n"+line) {
			found = append(found, code+"\n")
		}
	}
	if len(found) != 1 {
		t.Fatalf("%s has %d blocks with a line that begins with %q", page, len(found), line)
	}
	return found[0]
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// start runs a program that ends with its test, in an empty folder and without settings of this machine.
func start(t *testing.T, name string, arguments ...string) {
	t.Helper()
	command := exec.Command(name, arguments...)
	command.Dir = t.TempDir()
	command.Env = []string{"PATH=" + os.Getenv("PATH")}
	said := &strings.Builder{}
	command.Stdout, command.Stderr = said, said
	// It dies with the test program, however that ends.
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
		if t.Failed() {
			t.Logf("%s said:\n%s", name, said)
		}
	})
}

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

// get is an answer of status 200.
func get(url string) (*http.Response, error) {
	client := http.Client{Timeout: patience}
	answer, err := client.Get(url)
	if err == nil && answer.StatusCode != http.StatusOK {
		answer.Body.Close()
		err = fmt.Errorf("%s", answer.Status)
	}
	return answer, err
}

// run compiles a program with what go.mod has, and runs it.
func run(t *testing.T, program string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "main.go")
	if err := os.WriteFile(file, []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	command := exec.Command("go", "run", file)
	command.WaitDelay = patience
	said, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("%v:\n%s", err, said)
	}
	return string(said)
}

func TestProgramPublishesThroughRedis(t *testing.T) {
	example := block(t, "docs/publish.md", "package main")
	redis, node := freeAddress(t), freeAddress(t)
	_, redisPort, _ := net.SplitHostPort(redis)
	_, nodePort, _ := net.SplitHostPort(node)
	start(t, "redis-server", "--bind", "127.0.0.1", "--port", redisPort, "--save", "")
	eventually(t, "Redis answers", func() error {
		connection, err := net.Dial("tcp", redis)
		if err == nil {
			err = connection.Close()
		}
		return err
	})
	pollux := os.Getenv("POLLUX_BIN")
	if pollux == "" {
		t.Fatal("POLLUX_BIN names no node; tests/go/run builds one")
	}
	start(t, pollux, "--port="+nodePort, "--redis_url=redis://"+redis)
	eventually(t, "the node is ready", func() error {
		answer, err := get("http://" + node + "/ready")
		if err == nil {
			err = answer.Body.Close()
		}
		return err
	})

	stream, err := get("http://" + node + "/events?stream=chat/1")
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	lines := bufio.NewScanner(stream.Body)
	heard := func(what string) {
		t.Helper()
		for lines.Scan() {
			if strings.Contains(lines.Text(), what) {
				return
			}
		}
		t.Fatalf("no line of the event stream has %s: %v", what, lines.Err())
	}
	heard("confirm_subscription")
	if said := run(t, strings.ReplaceAll(example, "127.0.0.1:6379", redis)); said != "1 <nil>\n" {
		t.Fatalf("it printed %q", said)
	}
	heard(`data: {"text":"hi"}`)
}
