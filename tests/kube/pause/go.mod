module sluice.dev/tests/kube/pause

go 1.26.8
