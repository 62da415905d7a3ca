// Command realcluster is the real Kubernetes control plane that gitwright's
// tests are judged by: etcd, kube-apiserver, kube-controller-manager and
// kube-scheduler in one binary, chosen by the first argument. Each is started
// as a process of its own, so that a test can kill and restart it alone.
package main

import (
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/embed"
	"k8s.io/component-base/cli"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
)

func main() {
	if len(os.Args) < 2 {
		usage()
	}
	role := os.Args[1]
	// client-go names a process, and the fields it owns, after its program.
	os.Args = append([]string{"kube-" + role}, os.Args[2:]...)
	var command *cobra.Command
	switch role {
	case "etcd":
		command = etcdCommand()
	case "apiserver":
		command = apiserver.NewAPIServerCommand()
	case "controller-manager":
		command = controllermanager.NewControllerManagerCommand()
	case "scheduler":
		command = scheduler.NewSchedulerCommand()
	default:
		usage()
	}
	os.Exit(cli.Run(command))
}

func usage() {
	fmt.Fprintln(os.Stderr, "usage: realcluster etcd|apiserver|controller-manager|scheduler [flags]")
	os.Exit(2)
}

// etcdCommand serves one etcd member without fsync: the data of a test need
// not survive the machine, and the disk must not set the pace.
func etcdCommand() *cobra.Command {
	var directory, client, peer string
	command := &cobra.Command{
		Use:          "etcd",
		SilenceUsage: true,
		RunE: func(*cobra.Command, []string) error {
			return runEtcd(directory, client, peer)
		},
	}
	command.Flags().StringVar(&directory, "data-dir", "", "folder of the data")
	command.Flags().StringVar(&client, "listen-client-url", "", "URL for clients")
	command.Flags().StringVar(&peer, "listen-peer-url", "", "URL for peers")
	return command
}

func runEtcd(directory, client, peer string) error {
	clientURL, err := url.Parse(client)
	if err != nil {
		return fmt.Errorf("listen-client-url: %w", err)
	}
	peerURL, err := url.Parse(peer)
	if err != nil {
		return fmt.Errorf("listen-peer-url: %w", err)
	}
	config := embed.NewConfig()
	config.Dir = directory
	config.LogLevel = "error"
	config.UnsafeNoFsync = true
	config.ListenClientUrls = []url.URL{*clientURL}
	config.AdvertiseClientUrls = []url.URL{*clientURL}
	config.ListenPeerUrls = []url.URL{*peerURL}
	config.AdvertisePeerUrls = []url.URL{*peerURL}
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	server, err := embed.StartEtcd(config)
	if err != nil {
		return err
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	select {
	case <-server.Server.ReadyNotify():
	case <-time.After(30 * time.Second):
		server.Close()
		return fmt.Errorf("etcd was not ready within 30 s")
	}
	select {
	case <-stop:
		server.Close()
		return nil
	case err := <-server.Err():
		return err
	}
}
