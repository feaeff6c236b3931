package helm

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
)

// nodeOf is the container of the nodes, and its pollux.toml.
func nodeOf(t *testing.T, all []object) (core.Container, string) {
	t.Helper()
	deployment := decode[apps.Deployment](t, find(t, all, "Deployment", "pollux"))
	return deployment.Spec.Template.Spec.Containers[0], find(t, all, "ConfigMap", "pollux").Data["pollux.toml"]
}

// Every rendered pollux.toml is understood by the program: no option is unknown, and no value is wrong.
func TestNodesUnderstandTheirFile(t *testing.T) {
	secrets := t.TempDir()
	for _, name := range []string{"secret", "jwt_secret", "streams_secret", "broadcast_key"} {
		write(t, filepath.Join(secrets, name), "s3Krit\n")
	}
	address := t.TempDir()
	write(t, filepath.Join(address, "url"), "redis://realtime\n")
	write(t, filepath.Join(address, "sentinels"), ":geheim@sentinel-0:26379, sentinel-1:26379\n")
	for name, arguments := range examples(t) {
		t.Run(name, func(t *testing.T) {
			all := objects(t, rendered(t, arguments...))
			container, toml := nodeOf(t, all)
			toml = strings.NewReplacer("/etc/pollux/secrets", secrets, "/etc/pollux/redis/", address+"/").Replace(toml)
			path := filepath.Join(t.TempDir(), "pollux.toml")
			write(t, path, toml)
			command := exec.Command(program(t, "POLLUX_BIN", "pollux"), append(containerArguments(t, container, path), "--print_config")...)
			command.Env = environment(container)
			said, err := command.CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, said)
			}
			for line := range strings.Lines(toml) {
				option, _, found := strings.Cut(line, " = ")
				if !found || strings.HasPrefix(line, "#") {
					continue
				}
				option = strings.TrimSuffix(option, "_file")
				if !strings.Contains(string(said), "\n"+option+" = ") && !strings.HasPrefix(string(said), option+" = ") &&
					!strings.Contains(string(said), "# "+option+" = ") {
					t.Errorf("%s is not in what it would run with:\n%s", option, said)
				}
			}
			if strings.Contains(string(said), "s3Krit") || strings.Contains(string(said), "geheim") {
				t.Errorf("secrets are shown: %s", said)
			}
		})
	}
}

// environment is the container's, with what Kubernetes would put in.
func environment(container core.Container) []string {
	known := map[string]string{}
	var all []string
	for _, variable := range container.Env {
		value := variable.Value
		if source := variable.ValueFrom; source != nil {
			switch {
			case source.FieldRef != nil:
				value = "pollux-5d8c7b9f6d-x2x4z"
			case source.SecretKeyRef != nil:
				value = "geheim"
			}
		}
		for name, earlier := range known {
			value = strings.ReplaceAll(value, "$("+name+")", earlier)
		}
		known[variable.Name] = value
		all = append(all, variable.Name+"="+value)
	}
	return all
}

// The password takes its place in the address, where the node looks for it.
func TestThePasswordOfRedis(t *testing.T) {
	all := objects(t, rendered(t, examples(t)["ingress-haproxy"]...))
	container, toml := nodeOf(t, all)
	wanted := "POLLUX_REDIS_URL=rediss://:geheim@redis-0.redis:6379, rediss://:geheim@redis-1.redis:6379"
	if !slices.Contains(environment(container), wanted) || strings.Contains(toml, "redis_url") {
		t.Errorf("%v\n%s", environment(container), toml)
	}
}

// The rendered command line, its probes, and the stop that the grace period is made for.
func TestANodeAndItsProbes(t *testing.T) {
	t.Parallel()
	all := objects(t, rendered(t, "--set", "shutdown.delay=1"))
	container, toml := nodeOf(t, all)
	address := redis(t)
	running := runNode(t, container, configured(t, toml, "redis_url", fmt.Sprintf("%q", "redis://"+address)), "pollux-0")
	for _, probe := range []*core.Probe{container.StartupProbe, container.LivenessProbe, container.ReadinessProbe} {
		eventually(t, "a probe", func() error { return expect(running.url(probe.HTTPGet.Path), 200) })
	}
	eventually(t, "metrics", func() error {
		_, err := running.metric("pollux_broker_up")
		return err
	})
	// Clients can't read them.
	if err := expect(running.url("/metrics"), 404); err != nil {
		t.Error(err)
	}

	ended := make(chan int)
	began := time.Now()
	go func() { ended <- running.end(patience) }()
	eventually(t, "not ready while it stops", func() error { return expect(running.url(container.ReadinessProbe.HTTPGet.Path), 503) })
	if err := expect(running.url(container.LivenessProbe.HTTPGet.Path), 200); err != nil {
		t.Error(err)
	}
	if status := <-ended; status != 0 {
		t.Errorf("it ends with status %d", status)
	}
	if took := time.Since(began); took < time.Second {
		t.Errorf("it was gone after %s, before anybody could notice", took)
	}
}

// Without Redis the probe that restarts is content, and the one that sends clients is not.
func TestANodeWithoutItsRedis(t *testing.T) {
	t.Parallel()
	container, toml := nodeOf(t, objects(t, rendered(t)))
	toml = configured(t, toml, "redis_url", fmt.Sprintf(`"redis://127.0.0.1:%d"`, freePort(t)), "shutdown_delay", "0")
	running := runNode(t, container, toml, "pollux-0")
	eventually(t, "alive", func() error { return expect(running.url(container.LivenessProbe.HTTPGet.Path), 200) })
	eventually(t, "not ready", func() error { return expect(running.url(container.ReadinessProbe.HTTPGet.Path), 503) })
}
