package helm

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apps "k8s.io/api/apps/v1"
	autoscaling "k8s.io/api/autoscaling/v2"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/util/validation"
	gateway "sigs.k8s.io/gateway-api/apis/v1"
)

// decoder knows the types of the API; what they do not have, and what is there twice, is an error.
func decoder(t *testing.T) *json.Serializer {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		apps.AddToScheme, autoscaling.AddToScheme, core.AddToScheme, gateway.Install,
		monitoring.AddToScheme, networking.AddToScheme, policy.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	return json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme, scheme,
		json.SerializerOptions{Yaml: true, Strict: true})
}

// cluster is what a rendering would make, typed.
type cluster struct {
	t        *testing.T
	kinds    map[string]bool
	pods     map[string]core.PodTemplateSpec
	services map[string]core.Service
	maps     map[string]core.ConfigMap
}

// more are values that no example has, so that every part of every template is seen once.
var more = map[string][]string{
	"everything": {
		"--values", chart + "/examples/production.yaml",
		"--set", "commonLabels.team=realtime,podLabels.tier=edge,podAnnotations.note=x,nodeSelector.disk=ssd",
		"--set", "nginx.podLabels.tier=edge,nginx.priorityClassName=high,nginx.realIp.from={10.0.0.0/8,fd00::/8},nginx.ipv6=true",
		"--set", "config.http_broadcast_port=8091,gateway.enabled=true,gateway.parentRefs[0].name=public",
		"--set", "ingress.enabled=true,ingress.hosts[0].host=a.example.com,ingress.tls[0].secretName=tls",
		"--set", "tolerations[0].key=dedicated,tolerations[0].operator=Exists,extraEnv[0].name=RUST_BACKTRACE,extraEnv[0].value=full",
		"--set", "extraVolumes[0].name=more,extraVolumes[0].emptyDir.medium=Memory",
		"--set", "extraVolumeMounts[0].name=more,extraVolumeMounts[0].mountPath=/more",
		"--set", "serviceAccount.annotations.note=x,service.annotations.note=x,nginx.service.annotations.note=x",
		"--set-json", `networkPolicy.from=[{"ipBlock":{"cidr":"10.0.0.0/8"}}]`,
		"--set-json", `networkPolicy.nginxFrom=[{"ipBlock":{"cidr":"0.0.0.0/0"}}]`,
		"--set-json", `affinity={"podAntiAffinity":{}}`,
	},
	"nothing": {
		"--set", "replicas=1,redis.mode=none,nginx.enabled=false,serviceAccount.create=false,networkPolicy.enabled=false",
		"--set", "podDisruptionBudget.enabled=false,config.poll=false,topologySpread.zone=,topologySpread.host=,tests.enabled=false",
	},
	"long names": {
		"--set", "fullnameOverride=" + strings.Repeat("long-", 12) + "name",
	},
}

func TestAgainstTheAPI(t *testing.T) {
	decoder := decoder(t)
	cases := examples(t)
	for name, arguments := range more {
		cases[name] = arguments
	}
	kinds := map[string]bool{}
	for name, arguments := range cases {
		t.Run(name, func(t *testing.T) {
			all := objects(t, rendered(t, arguments...))
			found := cluster{t, kinds, map[string]core.PodTemplateSpec{}, map[string]core.Service{}, map[string]core.ConfigMap{}}
			names := map[string]bool{}
			for _, one := range all {
				typed, _, err := decoder.Decode(one.text, nil, nil)
				if err != nil {
					t.Errorf("%s %s: %v", one.Kind, one.Metadata.Name, err)
					continue
				}
				id := one.Kind + " " + one.Metadata.Name
				if names[id] {
					t.Errorf("%s is there twice", id)
				}
				names[id] = true
				found.collect(one, typed)
			}
			for _, one := range all {
				if typed, _, err := decoder.Decode(one.text, nil, nil); err == nil {
					found.check(one, typed)
				}
			}
			for id, pod := range found.pods {
				found.checkPod(id, pod)
			}
		})
	}
	for _, kind := range []string{
		"ConfigMap", "Deployment", "HTTPRoute", "HorizontalPodAutoscaler", "Ingress", "NetworkPolicy", "Pod",
		"PodDisruptionBudget", "PrometheusRule", "Service", "ServiceAccount", "ServiceMonitor", "StatefulSet",
	} {
		if !kinds[kind] {
			t.Errorf("no example has a %s", kind)
		}
	}
}

func (c *cluster) collect(one object, typed runtime.Object) {
	c.kinds[one.Kind] = true
	switch typed := typed.(type) {
	case *apps.Deployment:
		c.pods["Deployment "+typed.Name] = typed.Spec.Template
	case *apps.StatefulSet:
		c.pods["StatefulSet "+typed.Name] = typed.Spec.Template
	case *core.Pod:
		c.pods["Pod "+typed.Name] = core.PodTemplateSpec{ObjectMeta: typed.ObjectMeta, Spec: typed.Spec}
	case *core.Service:
		c.services[typed.Name] = *typed
	case *core.ConfigMap:
		c.maps[typed.Name] = *typed
	}
}

// check looks at names, labels and whatever one object says of another.
func (c *cluster) check(one object, typed runtime.Object) {
	id := one.Kind + " " + one.Metadata.Name
	problems := validation.IsDNS1123Subdomain(one.Metadata.Name)
	if one.Kind == "Service" {
		problems = validation.IsDNS1035Label(one.Metadata.Name)
	}
	// A Deployment's pods have ten characters more and a dash, and five more, in 63 that a node's id has.
	if len(one.Metadata.Name) > 63 {
		problems = append(problems, "its name is too long")
	}
	if one.Metadata.Namespace != "realtime" {
		problems = append(problems, fmt.Sprintf("namespace %q", one.Metadata.Namespace))
	}
	problems = append(problems, badLabels(one.Metadata.Labels)...)
	for _, name := range []string{"name", "instance", "component", "version", "part-of", "managed-by"} {
		if one.Metadata.Labels["app.kubernetes.io/"+name] == "" {
			problems = append(problems, "no label "+name)
		}
	}
	switch typed := typed.(type) {
	case *apps.Deployment:
		problems = append(problems, c.checkSelector(typed.Spec.Selector, typed.Spec.Template)...)
		if rolling := typed.Spec.Strategy.RollingUpdate; rolling != nil && rolling.MaxUnavailable.IntValue() != 0 {
			problems = append(problems, "maxUnavailable is not 0")
		}
	case *apps.StatefulSet:
		problems = append(problems, c.checkSelector(typed.Spec.Selector, typed.Spec.Template)...)
		if _, known := c.services[typed.Spec.ServiceName]; !known {
			problems = append(problems, "no service "+typed.Spec.ServiceName)
		}
	case *core.Service:
		pod := c.selected(labels.SelectorFromSet(typed.Spec.Selector))
		for _, port := range typed.Spec.Ports {
			if pod == nil || !hasPort(*pod, port.TargetPort.StrVal) {
				problems = append(problems, "no pod has the port "+port.TargetPort.StrVal)
			}
			problems = append(problems, validation.IsValidPortName(port.Name)...)
		}
	case *policy.PodDisruptionBudget:
		problems = append(problems, c.checkPods(typed.Spec.Selector)...)
	case *networking.NetworkPolicy:
		problems = append(problems, c.checkPods(&typed.Spec.PodSelector)...)
		pod := c.selected(selector(c.t, &typed.Spec.PodSelector))
		for _, rule := range typed.Spec.Ingress {
			for _, port := range rule.Ports {
				if pod != nil && !hasPort(*pod, port.Port.StrVal) {
					problems = append(problems, "no port "+port.Port.StrVal)
				}
			}
		}
	case *autoscaling.HorizontalPodAutoscaler:
		target := typed.Spec.ScaleTargetRef
		if _, known := c.pods[target.Kind+" "+target.Name]; !known || len(typed.Spec.Metrics) == 0 {
			problems = append(problems, "nothing to scale, or to go by")
		}
	case *networking.Ingress:
		for _, rule := range typed.Spec.Rules {
			for _, path := range rule.HTTP.Paths {
				problems = append(problems, c.checkService(path.Backend.Service.Name, path.Backend.Service.Port.Name, 0)...)
			}
		}
	case *gateway.HTTPRoute:
		for _, rule := range typed.Spec.Rules {
			for _, backend := range rule.BackendRefs {
				problems = append(problems, c.checkService(string(backend.Name), "", int32(*backend.Port))...)
			}
		}
	case *monitoring.ServiceMonitor:
		found := 0
		for _, service := range c.services {
			if selector(c.t, &typed.Spec.Selector).Matches(labels.Set(service.Labels)) {
				found++
				problems = append(problems, c.checkService(service.Name, typed.Spec.Endpoints[0].Port, 0)...)
			}
		}
		// More than one, and every node would be counted more than once.
		if found != 1 {
			problems = append(problems, fmt.Sprintf("it selects %d services", found))
		}
	}
	for _, problem := range problems {
		c.t.Errorf("%s: %s", id, problem)
	}
}

func badLabels(all map[string]string) []string {
	var problems []string
	for key, value := range all {
		problems = append(problems, validation.IsQualifiedName(key)...)
		problems = append(problems, validation.IsValidLabelValue(value)...)
	}
	return problems
}

func selector(t *testing.T, of *meta.LabelSelector) labels.Selector {
	t.Helper()
	parsed, err := meta.LabelSelectorAsSelector(of)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

// selected is the one kind of pods that is meant; those of the test belong to no tier.
func (c *cluster) selected(by labels.Selector) *core.PodTemplateSpec {
	var found []core.PodTemplateSpec
	for _, pod := range c.pods {
		if !by.Empty() && by.Matches(labels.Set(pod.Labels)) {
			found = append(found, pod)
		}
	}
	if len(found) != 1 {
		c.t.Errorf("%s selects %d kinds of pods", by, len(found))
		return nil
	}
	return &found[0]
}

func (c *cluster) checkPods(by *meta.LabelSelector) []string {
	if c.selected(selector(c.t, by)) == nil {
		return []string{"selects no pods, or too many"}
	}
	return nil
}

func (c *cluster) checkSelector(by *meta.LabelSelector, template core.PodTemplateSpec) []string {
	problems := append(c.checkPods(by), badLabels(template.Labels)...)
	if !selector(c.t, by).Matches(labels.Set(template.Labels)) {
		problems = append(problems, "does not select its own pods")
	}
	for _, spread := range template.Spec.TopologySpreadConstraints {
		if !selector(c.t, spread.LabelSelector).Matches(labels.Set(template.Labels)) {
			problems = append(problems, "spreads other pods")
		}
	}
	return problems
}

func (c *cluster) checkService(name, port string, number int32) []string {
	service, known := c.services[name]
	if !known {
		return []string{"no service " + name}
	}
	has := func(one core.ServicePort) bool { return one.Name == port || one.Port == number }
	if !slices.ContainsFunc(service.Spec.Ports, has) {
		return []string{fmt.Sprintf("the service %s has no port %s%d", name, port, number)}
	}
	return nil
}

func hasPort(pod core.PodTemplateSpec, name string) bool {
	return slices.ContainsFunc(pod.Spec.Containers, func(container core.Container) bool {
		return slices.ContainsFunc(container.Ports, func(port core.ContainerPort) bool { return port.Name == name })
	})
}

// Those that the level "restricted" of every Kubernetes that the chart allows lets through.
var safeSysctls = []string{
	"kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_local_reserved_ports",
	"net.ipv4.ip_unprivileged_port_start", "net.ipv4.ping_group_range", "net.ipv4.tcp_syncookies",
}

// checkPod is what the level "restricted" of the Pod Security Standards asks for, and what pods need to start.
func (c *cluster) checkPod(id string, pod core.PodTemplateSpec) {
	wrong := func(format string, arguments ...any) {
		c.t.Errorf("%s: %s", id, fmt.Sprintf(format, arguments...))
	}
	spec := pod.Spec
	context := spec.SecurityContext
	if context == nil || context.RunAsNonRoot == nil || !*context.RunAsNonRoot || *context.RunAsUser == 0 ||
		context.SeccompProfile.Type != core.SeccompProfileTypeRuntimeDefault {
		wrong("may be root, or make any system call")
	}
	if context != nil {
		for _, sysctl := range context.Sysctls {
			if !slices.Contains(safeSysctls, sysctl.Name) {
				wrong("Pod Security would refuse the sysctl %s", sysctl.Name)
			}
		}
	}
	if spec.HostNetwork || spec.HostPID || spec.HostIPC {
		wrong("shares something with its machine")
	}
	if spec.AutomountServiceAccountToken == nil || *spec.AutomountServiceAccountToken {
		wrong("gets a token")
	}
	if spec.EnableServiceLinks == nil || *spec.EnableServiceLinks {
		wrong("gets variables of Services")
	}
	volumes := map[string]bool{}
	for _, volume := range spec.Volumes {
		volumes[volume.Name] = true
		if volume.ConfigMap != nil {
			if _, known := c.maps[volume.ConfigMap.Name]; !known {
				wrong("there is no ConfigMap %s", volume.ConfigMap.Name)
			}
		}
		if volume.HostPath != nil {
			wrong("mounts its machine")
		}
	}
	for _, container := range spec.Containers {
		context := container.SecurityContext
		if context == nil || *context.AllowPrivilegeEscalation || !*context.ReadOnlyRootFilesystem ||
			!slices.Equal(context.Capabilities.Drop, []core.Capability{"ALL"}) || len(context.Capabilities.Add) > 0 {
			wrong("%s may do too much", container.Name)
		}
		if container.Resources.Limits.Memory().IsZero() || container.Resources.Requests.Memory().IsZero() {
			wrong("%s has no bound of its memory", container.Name)
		}
		for _, mount := range container.VolumeMounts {
			// That of a StatefulSet is made for each of its pods.
			if !volumes[mount.Name] && !(strings.HasPrefix(id, "StatefulSet") && mount.Name == "data") {
				wrong("%s mounts %s, which is no volume", container.Name, mount.Name)
			}
		}
		if strings.HasPrefix(id, "Pod ") {
			continue
		}
		if container.LivenessProbe == nil || container.ReadinessProbe == nil || container.StartupProbe == nil {
			wrong("%s lacks a probe", container.Name)
			continue
		}
		for _, probe := range []*core.Probe{container.LivenessProbe, container.ReadinessProbe, container.StartupProbe} {
			if probe.HTTPGet != nil && !hasPort(pod, probe.HTTPGet.Port.StrVal) {
				wrong("a probe asks a port that %s does not have", container.Name)
			}
		}
	}
}

// The grace period is what a node needs, whatever it was given.
func TestGracePeriod(t *testing.T) {
	for arguments, seconds := range map[string]int64{
		"": 40 + 30 + 10,
		"shutdown.delay=0,shutdown.timeout=0,shutdown.margin=2": 2,
		"shutdown.timeout=120": 40 + 120 + 10,
	} {
		all := objects(t, rendered(t, "--set", arguments))
		found := decode[apps.Deployment](t, find(t, all, "Deployment", "pollux"))
		if got := *found.Spec.Template.Spec.TerminationGracePeriodSeconds; got != seconds {
			t.Errorf("%q: %d, not %d", arguments, got, seconds)
		}
	}
}

// `helm test --logs` asks for the log of a pod by the name of every hook, after hooks are deleted.
func TestLogsOfTheTestCanBeRead(t *testing.T) {
	all := objects(t, rendered(t))
	if text := string(find(t, all, "ConfigMap", "pollux-test").text); strings.Contains(text, "helm.sh/hook") {
		t.Errorf("a hook that has no log:\n%s", text)
	}
	if text := string(find(t, all, "Pod", "pollux-test").text); strings.Contains(text, "hook-succeeded") {
		t.Errorf("its log is gone when it is asked for:\n%s", text)
	}
}

// Pods are replaced when what they read changes, and only then.
func TestChecksums(t *testing.T) {
	sums := func(arguments ...string) (string, string) {
		all := objects(t, rendered(t, arguments...))
		sum := func(name string) string {
			found := decode[apps.Deployment](t, find(t, all, "Deployment", name))
			return found.Spec.Template.Annotations["checksum/config"]
		}
		return sum("pollux"), sum("pollux-nginx")
	}
	node, nginx := sums()
	if changed, same := sums("--set", "config.log_level=debug"); changed == node || same != nginx {
		t.Error("another option")
	}
	if same, changed := sums("--set", "nginx.connectionsPerAddress=7"); changed == nginx || same != node {
		t.Error("another limit of nginx")
	}
	if first, second := sums("--set", "nginx.replicas=7,replicas=5"); first != node || second != nginx {
		t.Error("more of them")
	}
}
