// Command terraform does what Terraform's AWS provider does with its settings (ConfigureProvider in its package
// internal/conns) by the provider's own library, then asks for the namespaces at its endpoint of Cloud Map.
//
// The provider itself has the clients of all AWS services, which takes an hour to build.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/aws-sdk-go-v2/service/servicediscovery"
	awsbase "github.com/hashicorp/aws-sdk-go-base/v2"
	"github.com/hashicorp/aws-sdk-go-base/v2/diag"
	"github.com/hashicorp/aws-sdk-go-base/v2/validation"
)

// settings are those of the block `provider "aws"`.
type settings struct {
	AccessKey                 string `json:"access_key"`
	SecretKey                 string `json:"secret_key"`
	Region                    string `json:"region"`
	SkipCredentialsValidation bool   `json:"skip_credentials_validation"`
	SkipRequestingAccountID   bool   `json:"skip_requesting_account_id"`
	SkipMetadataAPICheck      bool   `json:"skip_metadata_api_check"`
	SkipRegionValidation      bool   `json:"skip_region_validation"`
	Servicediscovery          string `json:"servicediscovery"`
}

func failed(diagnostics diag.Diagnostics) error {
	var all []error
	for _, one := range diagnostics {
		if one.Severity() == diag.SeverityError {
			all = append(all, fmt.Errorf("%s: %s", one.Summary(), one.Detail()))
		}
	}
	return errors.Join(all...)
}

func configure(ctx context.Context, given settings) (aws.Config, error) {
	config := awsbase.Config{
		AccessKey:               given.AccessKey,
		SecretKey:               given.SecretKey,
		Region:                  given.Region,
		SkipCredsValidation:     true,
		SkipRequestingAccountId: given.SkipRequestingAccountID,
		MaxRetries:              1,
	}
	if given.SkipMetadataAPICheck {
		config.EC2MetadataServiceEnableState = imds.ClientDisabled
	}
	ctx, cfg, diagnostics := awsbase.GetAwsConfig(ctx, &config)
	if err := failed(diagnostics); err != nil {
		return cfg, err
	}
	if !given.SkipRegionValidation {
		if err := validation.SupportedRegion(cfg.Region); err != nil {
			return cfg, err
		}
	}
	config.SkipCredsValidation = given.SkipCredentialsValidation
	_, _, diagnostics = awsbase.GetAwsAccountIDAndPartition(ctx, cfg, &config)
	return cfg, failed(diagnostics)
}

func namespaces(given settings) error {
	ctx := context.Background()
	cfg, err := configure(ctx, given)
	if err != nil {
		return err
	}
	client := servicediscovery.NewFromConfig(cfg, func(options *servicediscovery.Options) {
		options.BaseEndpoint = aws.String(given.Servicediscovery)
	})
	found, err := client.ListNamespaces(ctx, &servicediscovery.ListNamespacesInput{})
	if err != nil {
		return err
	}
	for _, namespace := range found.Namespaces {
		fmt.Println(aws.ToString(namespace.Name))
	}
	return nil
}

func main() {
	var given settings
	err := json.Unmarshal([]byte(os.Args[1]), &given)
	if err == nil {
		err = namespaces(given)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
