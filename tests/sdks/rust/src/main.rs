//! Prints the ids of the instances that DiscoverInstances returns.

use aws_config::BehaviorVersion;
use aws_sdk_servicediscovery::Client;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let http = aws_smithy_http_client::Builder::new().build_http();
    let config = aws_config::defaults(BehaviorVersion::latest()).http_client(http).load().await;
    let call =
        Client::new(&config).discover_instances().namespace_name("production.local").service_name("backend");
    let is_switched = std::env::args().nth(1).as_deref() == Some("switch");
    let outcome = if is_switched {
        let without_prefix = call.customize().mutate_request(|request| {
            let uri = request.uri().replacen("://data-", "://", 1);
            request.set_uri(uri).expect("the endpoint without the prefix is a URI");
        });
        without_prefix.send().await
    } else {
        call.send().await
    };
    for instance in outcome.expect("DiscoverInstances").instances() {
        println!("{}", instance.instance_id().unwrap_or_default());
    }
}
