import java.time.Duration;
import software.amazon.awssdk.core.client.config.SdkAdvancedClientOption;
import software.amazon.awssdk.services.servicediscovery.ServiceDiscoveryClient;

/** Prints the ids of the instances that DiscoverInstances returns. */
public final class Discover {
    public static void main(String[] arguments) {
        var builder = ServiceDiscoveryClient.builder();
        if (arguments[0].equals("switch")) {
            builder.overrideConfiguration(configuration -> configuration
                .putAdvancedOption(SdkAdvancedClientOption.DISABLE_HOST_PREFIX_INJECTION, true));
        }
        try (var client = builder.build()) {
            client.discoverInstances(request -> request.namespaceName("production.local").serviceName("backend"))
                .instances().forEach(instance -> System.out.println(instance.instanceId()));
        }
    }
}
