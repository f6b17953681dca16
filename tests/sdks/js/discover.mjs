// Prints the ids of the instances that DiscoverInstances returns.
import { DiscoverInstancesCommand, ServiceDiscoveryClient } from "@aws-sdk/client-servicediscovery";

const client = new ServiceDiscoveryClient(process.argv[2] === "switch" ? { disableHostPrefix: true } : {});
const { Instances } = await client.send(
  new DiscoverInstancesCommand({ NamespaceName: "production.local", ServiceName: "backend" }),
);
for (const { InstanceId } of Instances) console.log(InstanceId);
