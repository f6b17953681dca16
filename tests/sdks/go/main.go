// Command discover prints the ids of the instances that DiscoverInstances returns.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/servicediscovery"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// withoutPrefix leaves out the prefix. In the context of the call itself the setting has no effect: the client clears it.
func withoutPrefix(stack *middleware.Stack) error {
	return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("WithoutHostPrefix", func(
		ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler,
	) (middleware.InitializeOutput, middleware.Metadata, error) {
		return next.HandleInitialize(smithyhttp.DisableEndpointHostPrefix(ctx, true), in)
	}), middleware.Before)
}

func discover(mode string) error {
	ctx := context.Background()
	cfg, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return err
	}
	switch mode {
	case "switch":
		cfg.APIOptions = append(cfg.APIOptions, withoutPrefix)
	case "context":
		ctx = smithyhttp.DisableEndpointHostPrefix(ctx, true)
	}
	found, err := servicediscovery.NewFromConfig(cfg).DiscoverInstances(ctx, &servicediscovery.DiscoverInstancesInput{
		NamespaceName: aws.String("production.local"),
		ServiceName:   aws.String("backend"),
	})
	if err != nil {
		return err
	}
	for _, instance := range found.Instances {
		fmt.Println(aws.ToString(instance.InstanceId))
	}
	return nil
}

func main() {
	if err := discover(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
