package helm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Values that are wrong are refused, in words that say what is.
func TestRejections(t *testing.T) {
	t.Parallel()
	external := "redis.mode=external,redis.external.url=redis://r:6379"
	for _, one := range []struct{ set, word string }{
		// By the schema.
		{"replica=3", "additional properties 'replica' not allowed"},
		{"image.registry=x", "at '/image': additional properties 'registry' not allowed"},
		{"nginx.service.typ=x", "at '/nginx/service': additional properties 'typ' not allowed"},
		{"config.poll_intervall=5", "at '/config': additional properties 'poll_intervall' not allowed"},
		{"replicas=two", "at '/replicas': got string, want integer"},
		{"replicas=0", "at '/replicas': minimum: got 0, want 1"},
		{"image.tag=1", "at '/image/tag': got number, want string"},
		{"image.digest=sha256:12", "at '/image/digest': 'sha256:12' does not match pattern"},
		{"image.pullPolicy=always", "at '/image/pullPolicy': value must be one of 'Always', 'IfNotPresent', 'Never'"},
		{"config.poll_overflow=drop", "at '/config/poll_overflow': value must be one of 'expire', 'drop_oldest'"},
		{"config.noauth=1", "at '/config/noauth': got number, want boolean"},
		{"config.poll_interval=soon", "at '/config/poll_interval': 'soon' does not match pattern"},
		{"secrets.keys.secrt=x,secrets.existingSecret=s", "at '/secrets/keys': additional properties 'secrt' not allowed"},
		{"secrets.existingSecret=No_Name", "at '/secrets/existingSecret': 'No_Name' does not match pattern"},
		{"redis.mode=sentinel", "at '/redis/mode': value must be one of 'bundled', 'external', 'none'"},
		{"redis.mode=external,redis.external.url=r:6379", "at '/redis/external/url': 'r:6379' does not match pattern"},
		{"shutdown.delay=-1", "at '/shutdown/delay': minimum: got -1, want 0"},
		{"nginx.resolverValid=5", "at '/nginx/resolverValid': got number, want string"},
		{"nginx.service.type=External", "at '/nginx/service/type': value must be one of"},
		{"nginx.service.port=70000", "at '/nginx/service/port': maximum: got 70,000, want 65,535"},
		{"nginx.realIp.from={balancer}", "at '/nginx/realIp/from/0': 'balancer' does not match pattern"},
		{"podNetworks=10.0.0.0/8", "at '/podNetworks': got string, want array"},
		{"ingress.controller=envoy", "at '/ingress/controller': value must be one of 'nginx', 'haproxy', 'traefik', 'none'"},
		{"ingress.hosts[0]=example.com", "at '/ingress/hosts/0': got string, want object"},
		{"topologySpread.zone=Always", "at '/topologySpread/zone': value must be one of"},
		{"metrics.port=8080", "at '/metrics/port'"},
		// By the templates.
		{"redis.mode=none", "more than one node needs Redis"},
		{"redis.mode=none,replicas=1,autoscaling.enabled=true", "more than one node needs Redis"},
		{"redis.mode=external", "redis.mode is external: say where it is"},
		{external + ",redis.external.existingSecret=s", "both say where Redis is"},
		{"redis.external.url=redis://r:6379", "redis.external is set, but redis.mode is bundled"},
		{"redis.mode=external,redis.external.url=redis://:geheim@r:6379", "redis.external has a password in it"},
		{"redis.mode=external,redis.external.url=redis://:$(REDIS_PASSWORD)@r:6379", "name its Secret in redis.external.passwordSecret.name"},
		{external + ",redis.external.passwordSecret.name=s", "redis.external.url has no $(REDIS_PASSWORD)"},
		{external + ",redis.external.sentinelsKey=s", "is a key of redis.external.existingSecret, which is not set"},
		{external + ",redis.external.tls.caKey=ca", "redis.external.tls.existingSecret is not set"},
		{external + ",redis.external.tls.existingSecret=s,redis.external.tls.certKey=c", "certKey and keyKey belong together"},
		{"nginx.service.type=LoadBalancer", "nobody said who may connect"},
		{"nginx.service.type=NodePort", "nobody said who may connect"},
		{"ingress.enabled=true,ingress.hosts[0].host=a.example.com", "nobody said who may connect"},
		{"gateway.enabled=true,gateway.parentRefs[0].name=g", "nobody said who may connect"},
		{"config.public=false", "nobody could connect"},
		{"secrets.keys.secret=x", "secrets.existingSecret is not set"},
		{"config.secret=geheim", "config.secret is a secret: put it into a Secret"},
		{"config.broadcast_key=geheim", "config.broadcast_key is a secret"},
		{"config.port=81", "config.port is not set here: use service.port"},
		{"config.redis_url=redis://r", "config.redis_url is not set here: use redis.external"},
		{"config.http_broadcast_port=9090", "a port that is taken already"},
		{"autoscaling.enabled=true,autoscaling.minReplicas=20", "autoscaling.minReplicas is more than autoscaling.maxReplicas"},
		{"autoscaling.enabled=true,autoscaling.targetCPU=0", "needs something to go by"},
		{"metrics.serviceMonitor.enabled=true,config.metrics_http=", "config.metrics_http is empty"},
		{"ingress.enabled=true,secrets.existingSecret=s", "ingress.enabled needs ingress.hosts"},
		{"gateway.enabled=true,secrets.existingSecret=s", "gateway.enabled needs gateway.parentRefs"},
	} {
		_, said, err := template(t, "--set", one.set)
		if err == nil || !strings.Contains(said, one.word) {
			t.Errorf("%s: no %q in %q", one.set, one.word, said)
		}
		// Secrets are not repeated where they could be read.
		if strings.Contains(said, "geheim") {
			t.Errorf("%s: the password is told: %s", one.set, said)
		}
	}
}

// Everything that is wrong is told at once.
func TestAllIsTold(t *testing.T) {
	_, said, err := template(t, "--set", "redis.mode=none,nginx.service.type=LoadBalancer,ingress.enabled=true")
	for _, word := range []string{"more than one node", "nobody said", "ingress.hosts"} {
		if err == nil || !strings.Contains(said, word) {
			t.Errorf("no %q in %s", word, said)
		}
	}
}

// notes are what helm prints after an installation. It does so only for a cluster; so they are rendered
// as an object of a copy of the chart.
func notes(t *testing.T, arguments ...string) string {
	t.Helper()
	folder := t.TempDir()
	if err := os.CopyFS(folder, os.DirFS(chart)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(folder, "templates", "NOTES.txt")
	text := `{{ define "notes" }}` + read(t, path) + `{{ end }}`
	write(t, filepath.Join(folder, "templates", "notes.yaml"), text+`
apiVersion: v1
kind: ConfigMap
metadata:
  name: notes
data:
  notes: {{ include "notes" . | quote }}
`)
	usual := []string{"template", "chat", folder, "--namespace", "realtime", "--kube-version", kubeVersion}
	all, said, err := helm(t, append(usual, arguments...)...)
	if err != nil {
		t.Fatal(said)
	}
	return find(t, objects(t, all), "ConfigMap", "notes").Data["notes"]
}

func TestNotes(t *testing.T) {
	t.Parallel()
	test := "kubectl --namespace realtime rollout status deployment/chat-pollux-nginx && helm test chat --namespace realtime --logs"
	for name, wanted := range map[string]struct{ there, absent []string }{
		"default": {
			[]string{test, "port-forward service/chat-pollux-nginx 8080:80", "MAY CONNECT, SUBSCRIBE AND PUBLISH", "The bundled Redis is one server"},
			[]string{"Without nginx"},
		},
		"production":      {[]string{test, "3 to 12 nodes", "get service chat-pollux-nginx"}, []string{"MAY CONNECT", "bundled Redis"}},
		"cross-origin":    {[]string{"curl -i https://realtime.example.com/lp"}, []string{"MAY CONNECT", "Without nginx"}},
		"small":           {[]string{"1 node, 1 nginx"}, []string{"MAY CONNECT", "bundled Redis"}},
		"ingress":         {[]string{"Without nginx only clients that send cookies"}, nil},
		"ingress-haproxy": {[]string{"curl -i http://realtime.example.com/lp"}, []string{"Without nginx"}},
		"gateway":         {[]string{"curl -i https://realtime.example.com/lp"}, nil},
	} {
		said := notes(t, examples(t)[name]...)
		for _, word := range wanted.there {
			if !strings.Contains(said, word) {
				t.Errorf("%s: no %q in %s", name, word, said)
			}
		}
		for _, word := range wanted.absent {
			if strings.Contains(said, word) {
				t.Errorf("%s: %q in %s", name, word, said)
			}
		}
	}
}
