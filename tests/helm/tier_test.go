package helm

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
)

// tier is the whole: Redis, two nodes and nginx, with what the chart has rendered for them.
type tier struct {
	all   []object
	nodes map[string]node
	names *dns
	url   string
}

// Two pods, as CoreDNS calls those without a name of their own.
var pods = []string{"10-1-0-11", "10-1-0-12"}

func startTier(t *testing.T, secrets string, arguments ...string) *tier {
	t.Helper()
	all := objects(t, rendered(t, arguments...))
	found := &tier{all: all, nodes: startNodes(t, all, secrets)}
	ports := map[string]int{}
	for pod, running := range found.nodes {
		ports[pod] = running.port
	}
	found.names = startDNS(t, "pollux-headless.realtime.svc.cluster.local", ports)
	port := freePort(t)
	folder := nginxFiles(t, all, found.names.address,
		"listen 8080 default_server", fmt.Sprintf("listen 127.0.0.1:%d default_server", port), "valid=5s", "valid=1s")
	start(t, program(t, "NGINX_BIN", "nginx"), "-p", folder, "-c", folder+"/nginx.conf", "-g", "daemon off;")
	found.url = fmt.Sprintf("http://127.0.0.1:%d", port)
	eventually(t, "nginx finds a node", func() error { return expect(found.url+"/ready", 200) })
	return found
}

// startNodes starts one for each pod, with a Redis of their own, and waits until all are ready.
func startNodes(t *testing.T, all []object, secrets string) map[string]node {
	t.Helper()
	address := redis(t)
	container, toml := nodeOf(t, all)
	toml = strings.ReplaceAll(toml, "/etc/pollux/secrets", secrets)
	toml = configured(t, toml, "redis_url", fmt.Sprintf("%q", "redis://"+address), "shutdown_delay", "0")
	nodes := map[string]node{}
	for _, pod := range pods {
		nodes[pod] = runNode(t, container, toml, "pollux-"+pod)
	}
	for _, running := range nodes {
		eventually(t, "a node", func() error { return expect(running.url("/ready"), 200) })
	}
	return nodes
}

// client is one that keeps no cookies, as curl and pages of other origins.
type client struct{ url, id, cookie string }

func open(url string) (*client, error) {
	response, text, err := ask("POST", url+"/lp", "")
	if err != nil {
		return nil, err
	}
	id, cookie := response.Header.Get("X-Anycable-Poll-Id"), response.Header.Get("Set-Cookie")
	if response.StatusCode != http.StatusOK || id == "" {
		return nil, fmt.Errorf("%d %s", response.StatusCode, text)
	}
	return &client{url, id, cookie}, nil
}

// subscribe sends a command, so that the poll is answered at once.
func (c *client) subscribe(stream string) error {
	command := `{"command":"subscribe","identifier":"{\"channel\":\"$pubsub\",\"stream_name\":\"` + stream + `\"}"}`
	response, text, err := ask("POST", c.url+"/lp", command, "X-Anycable-Poll-Id", c.id)
	if err == nil && (response.StatusCode != http.StatusOK || !strings.Contains(text, "confirm_subscription")) {
		err = fmt.Errorf("%d %s", response.StatusCode, text)
	}
	return err
}

// stickiness opens sessions, and polls with each: every poll has to meet the node of its session, and
// every node has to have some.
func stickiness(t *testing.T, url string, nodes map[string]node) {
	t.Helper()
	const each = 40
	for number := range each {
		one, err := open(url)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(one.cookie, "pollux_route=") {
			t.Errorf("the cookie is %q", one.cookie)
		}
		for poll := range 2 {
			if err := one.subscribe(fmt.Sprintf("stream/%d/%d", number, poll)); err != nil {
				t.Fatalf("poll %d of client %d: %v", poll, number, err)
			}
		}
	}
	for pod, running := range nodes {
		for name, bad := range map[string]func(string) bool{
			"pollux_opened_sessions_total":                      func(value string) bool { return value == "0" },
			"pollux_long_poll_stale_requests_total":             func(value string) bool { return value != "0" },
			`pollux_ignored_routes_total\{reason="untrusted"\}`: func(value string) bool { return value != "0" },
		} {
			value, err := running.metric(name)
			if err != nil || bad(value) {
				t.Errorf("%s: %s is %s (%v)", pod, name, value, err)
			}
		}
	}
}

// Every client finds its node again, and when a node is stopped, all go to the other one.
func TestTheBundledNginxKeepsClientsAtTheirNode(t *testing.T) {
	t.Parallel()
	tier := startTier(t, "")
	// Until nginx knows both, as it asks for one name after the other.
	eventually(t, "both nodes have sessions", func() error {
		if _, err := open(tier.url); err != nil {
			return err
		}
		for _, running := range tier.nodes {
			if value, err := running.metric("pollux_opened_sessions_total"); err != nil || value == "0" {
				return fmt.Errorf("%s sessions, %v", value, err)
			}
		}
		return nil
	})
	stickiness(t, tier.url, tier.nodes)
	if err := expect(tier.url+"/metrics", 404); err != nil {
		t.Error(err)
	}

	// A pod that is stopped leaves the records, and then it stops.
	leaving, staying := tier.nodes[pods[0]], tier.nodes[pods[1]]
	before := tier.names.count()
	tier.names.set(map[string]int{pods[1]: staying.port})
	eventually(t, "nginx asks again, twice", func() error {
		if asked := tier.names.count(); asked < before+2 {
			return fmt.Errorf("%d times", asked-before)
		}
		return nil
	})
	if status := leaving.end(patience); status != 0 {
		t.Errorf("it ends with status %d", status)
	}
	for range 40 {
		if _, err := open(tier.url); err != nil {
			t.Fatalf("while a node is away: %v", err)
		}
	}
}

// The pod of `helm test`, against what it would meet in a cluster, with every kind of secret.
func TestTheHelmTest(t *testing.T) {
	t.Parallel()
	for name, secrets := range map[string]map[string]string{
		"public":          {},
		"one secret":      {"secret": "s3Krit"},
		"several secrets": {"secret": "first", "jwt_secret": "new,old", "streams_secret": "signs", "broadcast_key": "publishes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			folder := t.TempDir()
			var arguments []string
			for option, text := range secrets {
				write(t, filepath.Join(folder, option), text)
				arguments = append(arguments, "--set", "secrets.existingSecret=pollux,secrets.keys."+option+"="+option)
			}
			tier := startTier(t, folder, arguments...)
			runHelmTest(t, tier.all, folder, "http://pollux-nginx:80", tier.url)
			// That it can fail.
			if len(secrets) > 0 {
				write(t, filepath.Join(folder, "secret"), "another")
				write(t, filepath.Join(folder, "jwt_secret"), "another")
				if said, err := helmTest(t, tier.all, folder, "PATIENCE=1", "http://pollux-nginx:80", tier.url); err == nil {
					t.Errorf("it is content with wrong secrets: %s", said)
				}
			}
		})
	}
}

func runHelmTest(t *testing.T, all []object, secrets, service, url string) {
	t.Helper()
	said, err := helmTest(t, all, secrets, "PATIENCE=30", service, url)
	if err != nil || !strings.HasSuffix(said, "\nOK\n") || !strings.Contains(said, "from helm test") {
		t.Errorf("%v: %s", err, said)
	}
}

// helmTest runs the pod's command line, its script and its variables.
func helmTest(t *testing.T, all []object, secrets, patience, service, url string) (string, error) {
	t.Helper()
	container := decode[core.Pod](t, find(t, all, "Pod", "pollux-test")).Spec.Containers[0]
	script := filepath.Join(t.TempDir(), "publish-and-receive")
	write(t, script, find(t, all, "ConfigMap", "pollux-test").Data["publish-and-receive"])
	line := strings.Split(replaced(t, strings.Join(container.Command, "\n"), "/test/publish-and-receive", script), "\n")
	command := exec.Command(line[0], line[1:]...)
	command.Env = []string{"PATH=" + os.Getenv("PATH"), "SECRETS=" + secrets, patience, "HOSTNAME=pollux-test"}
	for _, variable := range environment(container) {
		command.Env = append(command.Env, strings.Replace(variable, service, url, 1))
	}
	said, err := command.CombinedOutput()
	return string(said), err
}

// HAProxy does with our annotation what the bundled nginx does.
func TestHaproxyKeepsClientsAtTheirNode(t *testing.T) {
	t.Parallel()
	all := objects(t, rendered(t, "--values", chart+"/examples/ingress-haproxy.yaml",
		"--set", "redis.mode=bundled,redis.external.url=,redis.external.passwordSecret.name=",
		"--set", "secrets.existingSecret=,config.public=true,redis.external.tls.existingSecret=,redis.external.tls.caKey="))
	nodes := startNodes(t, all, "")
	annotations := decode[networking.Ingress](t, find(t, all, "Ingress", "pollux")).Annotations
	port := freePort(t)
	var file strings.Builder
	fmt.Fprintf(&file, "defaults\n  mode http\n  timeout connect 1s\n  timeout client 60s\n  timeout server %s\n",
		annotations["haproxy.org/timeout-server"])
	fmt.Fprintf(&file, "frontend in\n  bind 127.0.0.1:%d\n  default_backend pollux\nbackend pollux\n  option forwardfor\n", port)
	// As the controller does.
	fmt.Fprintf(&file, "  balance %s\n", annotations["haproxy.org/load-balance"])
	for line := range strings.Lines(annotations["haproxy.org/backend-config-snippet"]) {
		file.WriteString("  " + line)
	}
	for pod, running := range nodes {
		fmt.Fprintf(&file, "\n  server %s 127.0.0.1:%d", pod, running.port)
	}
	path := filepath.Join(t.TempDir(), "haproxy.cfg")
	write(t, path, file.String()+"\n")
	haproxy := program(t, "HAPROXY_BIN", "haproxy")
	if said, err := exec.Command(haproxy, "-c", "-f", path).CombinedOutput(); err != nil {
		t.Fatalf("%s", said)
	}
	start(t, haproxy, "-db", "-f", path)
	url := fmt.Sprintf("http://127.0.0.1:%d", port)
	eventually(t, "haproxy", func() error { return expect(url+"/ready", 200) })
	stickiness(t, url, nodes)
}
