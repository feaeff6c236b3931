package main
import (
 _ "k8s.io/api/apps/v1"
 _ "k8s.io/apimachinery/pkg/util/validation"
 _ "sigs.k8s.io/gateway-api/apis/v1"
 _ "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
 _ "golang.org/x/net/dns/dnsmessage"
 _ "gopkg.in/yaml.v3"
)
func main(){}
