package helm

import (
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
)

// dns answers as the cluster's would for a headless Service: SRV records with a name for each pod.
type dns struct {
	service string
	mutex   sync.Mutex
	pods    map[string]int
	asked   int
	address string
}

func startDNS(t *testing.T, service string, pods map[string]int) *dns {
	t.Helper()
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { socket.Close() })
	server := &dns{service: service, pods: pods, address: socket.LocalAddr().String()}
	go func() {
		buffer := make([]byte, 512)
		for {
			length, from, err := socket.ReadFrom(buffer)
			if err != nil {
				return
			}
			if answer, err := server.answer(buffer[:length]); err == nil {
				_, _ = socket.WriteTo(answer, from)
			}
		}
	}()
	return server
}

// set changes the pods, and count says how often somebody asked for them.
func (d *dns) set(pods map[string]int) {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	d.pods = pods
}

func (d *dns) count() int {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	return d.asked
}

func (d *dns) answer(question []byte) ([]byte, error) {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	var parser dnsmessage.Parser
	header, err := parser.Start(question)
	if err != nil {
		return nil, err
	}
	asked, err := parser.Question()
	if err != nil {
		return nil, err
	}
	header.Response, header.Authoritative, header.RCode = true, true, dnsmessage.RCodeSuccess
	name := strings.TrimSuffix(asked.Name.String(), ".")
	pod, isPod := strings.CutSuffix(name, "."+d.service)
	_, known := d.pods[pod]
	if name == "_http._tcp."+d.service {
		d.asked++
	} else if !isPod || !known {
		header.RCode = dnsmessage.RCodeNameError
	}
	builder := dnsmessage.NewBuilder(nil, header)
	builder.EnableCompression()
	resource := dnsmessage.ResourceHeader{Name: asked.Name, Class: dnsmessage.ClassINET, TTL: 5}
	if err := builder.StartQuestions(); err != nil {
		return nil, err
	}
	if err := builder.Question(asked); err != nil {
		return nil, err
	}
	if err := builder.StartAnswers(); err != nil {
		return nil, err
	}
	switch {
	case asked.Type == dnsmessage.TypeSRV:
		for pod, port := range d.pods {
			target, err := dnsmessage.NewName(pod + "." + d.service + ".")
			if err != nil {
				return nil, err
			}
			// CoreDNS divides 100 among them.
			record := dnsmessage.SRVResource{Weight: uint16(100 / len(d.pods)), Port: uint16(port), Target: target}
			if err := builder.SRVResource(resource, record); err != nil {
				return nil, err
			}
		}
	case asked.Type == dnsmessage.TypeA && known:
		if err := builder.AResource(resource, dnsmessage.AResource{A: [4]byte{127, 0, 0, 1}}); err != nil {
			return nil, err
		}
	}
	return builder.Finish()
}

// nginxFiles lays the rendered files out as the container mounts them, and makes of the template what the
// image's entrypoint makes of it.
func nginxFiles(t *testing.T, all []object, resolver string, pairs ...string) string {
	t.Helper()
	folder := t.TempDir()
	data := find(t, all, "ConfigMap", "pollux-nginx").Data
	container := nginxOf(t, all)
	variables := map[string]string{}
	for _, variable := range container.Env {
		variables[variable.Name] = variable.Value
	}
	if variables["NGINX_ENTRYPOINT_LOCAL_RESOLVERS"] == "" {
		t.Fatal("the image is not asked for its resolvers")
	}
	filter := regexp.MustCompile(variables["NGINX_ENVSUBST_FILTER"])
	for _, mount := range container.VolumeMounts {
		if mount.Name != "config" {
			continue
		}
		text, there := data[mount.SubPath]
		if !there {
			t.Fatalf("%s is mounted, but not there", mount.SubPath)
		}
		path := strings.TrimPrefix(mount.MountPath, "/etc/nginx/")
		if name, is := strings.CutPrefix(path, "templates/"); is {
			path = "conf.d/" + strings.TrimSuffix(name, ".template")
			text = regexp.MustCompile(`\$\{?([A-Za-z_]+)\}?`).ReplaceAllStringFunc(text, func(match string) string {
				if !filter.MatchString(strings.Trim(match, "${}")) {
					return match
				}
				return resolver + " "
			})
			text = replaced(t, text, append([]string{"access_log /dev/stdout", "access_log " + folder + "/access.log"}, pairs...)...)
		}
		if path == "nginx.conf" {
			text = replaced(t, text, "pid /run/nginx.pid;", "pid nginx.pid;")
		}
		write(t, filepath.Join(folder, path), text)
	}
	return folder
}

func nginxOf(t *testing.T, all []object) core.Container {
	t.Helper()
	return decode[apps.Deployment](t, find(t, all, "Deployment", "pollux-nginx")).Spec.Template.Spec.Containers[0]
}

// certificate makes one where the chart mounts it.
func certificate(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	said, err := exec.Command("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
		"-keyout", folder+"/tls.key", "-out", folder+"/tls.crt").CombinedOutput()
	if err != nil {
		t.Fatalf("openssl: %s", said)
	}
	return folder
}

// The real nginx takes the rendered files of every example that has one.
func TestNginxTakesItsFiles(t *testing.T) {
	cases := examples(t)
	for name, arguments := range more {
		cases[name] = arguments
	}
	tested := 0
	for name, arguments := range cases {
		all := objects(t, rendered(t, arguments...))
		if name == "long names" || !strings.Contains(rendered(t, arguments...), "pollux.conf.template") {
			continue
		}
		t.Run(name, func(t *testing.T) {
			var pairs []string
			if strings.Contains(find(t, all, "ConfigMap", "pollux-nginx").Data["pollux.conf.template"], "ssl_certificate") {
				pairs = []string{"/etc/nginx/tls", certificate(t)}
			}
			folder := nginxFiles(t, all, "127.0.0.1 [::1]", pairs...)
			said, err := exec.Command(program(t, "NGINX_BIN", "nginx"), "-t", "-p", folder, "-c", folder+"/nginx.conf").CombinedOutput()
			if err != nil || strings.Contains(string(said), "[warn]") {
				t.Errorf("%v: %s", err, said)
			}
		})
		tested++
	}
	if tested < 4 {
		t.Errorf("only %d", tested)
	}
}

// What values say arrives in nginx's files.
func TestValuesOfNginx(t *testing.T) {
	for set, words := range map[string][]string{
		"config.poll_interval=100s":                          {"proxy_read_timeout 115s;"},
		"config.poll_interval=500ms,config.room_max_wait=90": {"proxy_read_timeout 105s;"},
		"config.category_max_timeout=200":                    {"proxy_read_timeout 210s;"},
		"config.http_broadcast_path=/in":                     {"location = /in {"},
		"config.category_path=/wait":                         {"location = /wait {"},
		"nginx.maxBodySize=9m":                               {"client_max_body_size 9m;"},
		"nginx.connectionsPerAddress=7":                      {"limit_conn pollux_addresses 7;"},
		"nginx.resolver=10.96.0.10,nginx.resolverValid=9s":   {"resolver 10.96.0.10 valid=9s;"},
		"podNetworks={100.64.0.0/10}":                        {"    100.64.0.0/10 1;"},
		"clusterDomain=example.org":                          {"server pollux-headless.realtime.svc.example.org service=http resolve"},
		"nginx.realIp.from={10.1.0.0/16}": {
			"set_real_ip_from 10.1.0.0/16;", "real_ip_header X-Forwarded-For;",
			"geo $realip_remote_addr $pollux_balancer {", `map "$pollux_balancer:$http_x_forwarded_proto" $pollux_proto`,
		},
	} {
		text := rendered(t, "--set", set)
		for _, word := range words {
			if !strings.Contains(text, word) {
				t.Errorf("%s: no %q", set, word)
			}
		}
	}
	// Longer than any poll, and longer than it lets a node take to notice.
	if text := rendered(t); !strings.Contains(text, "proxy_read_timeout 60s;") {
		t.Error(fmt.Errorf("another usual timeout"))
	}
}
