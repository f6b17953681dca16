//! Finds the protocol and the operation of a request by its method, headers and path.

use axum::http::{Method, request::Parts};

use super::action::Action;
use super::codec::Protocol;
use super::error::ApiError;

/// The service's name in the model. It is the prefix of X-Amz-Target, and a segment of an RPC v2 path.
const TARGET_PREFIX: &str = "Route53AutoNaming_v20170314";

/// The header that names a Smithy protocol, and its value for RPC v2 CBOR.
pub(super) const SMITHY_PROTOCOL: &str = "smithy-protocol";
pub(super) const RPC_V2_CBOR: &str = "rpc-v2-cbor";

#[derive(Debug)]
pub(super) struct Route {
    /// Protocol of the answer, also if the answer is an error.
    pub(super) protocol: Protocol,
    pub(super) action: Result<Action, ApiError>,
}

impl Route {
    /// Routes a request by its headers and by the end of its path. The host and the rest of the path are ignored:
    /// endpoint URLs may have a path, and clients put `data-` before the host for the Discover operations.
    pub(super) fn of(request: &Parts) -> Route {
        let header = |name| request.headers.get(name).map(|value| value.to_str().unwrap_or_default());
        let smithy = header(SMITHY_PROTOCOL);
        let name = rpc_operation(request.uri.path());
        if name.is_none() && smithy.is_none() {
            let action = match request.method {
                Method::POST => target(header("x-amz-target")),
                _ => Err(ApiError::method_not_allowed()),
            };
            return Route { protocol: Protocol::Json, action };
        }
        let action = match (name, smithy) {
            _ if request.method != Method::POST => Err(ApiError::method_not_allowed()),
            (_, Some(protocol)) if protocol != RPC_V2_CBOR => Err(ApiError::unknown_operation(format!(
                "The smithy-protocol is not served; use {RPC_V2_CBOR}, or awsJson1_1 without that header."
            ))),
            (Some((TARGET_PREFIX, name)), _) => Action::from_name(name).ok_or_else(|| unknown(name)),
            _ => Err(ApiError::unknown_operation(format!(
                "The path of an RPC v2 request ends in /service/{TARGET_PREFIX}/operation/ and the operation."
            ))),
        };
        Route { protocol: Protocol::Cbor, action }
    }
}

fn rpc_operation(path: &str) -> Option<(&str, &str)> {
    let mut segments = path.rsplit('/');
    let operation = segments.next()?;
    let is_operation = segments.next() == Some("operation");
    let service = segments.next()?;
    (is_operation && segments.next() == Some("service")).then_some((service, operation))
}

fn target(target: Option<&str>) -> Result<Action, ApiError> {
    let Some(target) = target else {
        return Err(ApiError::unknown_operation(
            "The request has no X-Amz-Target header. This is the AWS Cloud Map API.",
        ));
    };
    match target.split_once('.') {
        Some((TARGET_PREFIX, name)) => Action::from_name(name).ok_or_else(|| unknown(name)),
        _ => Err(ApiError::unknown_operation(format!(
            "The X-Amz-Target is not one of AWS Cloud Map; it starts with {TARGET_PREFIX}."
        ))),
    }
}

fn unknown(name: &str) -> ApiError {
    let shown: String = name.chars().take(64).collect();
    ApiError::unknown_operation(format!("AWS Cloud Map has no operation {shown}."))
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn route(method: &str, path: &str, headers: &[(&str, &str)]) -> (Protocol, Result<Action, &'static str>) {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let route = Route::of(&request.body(()).unwrap().into_parts().0);
        (route.protocol, route.action.map_err(|error| error.code))
    }

    #[test]
    fn json_is_routed_by_its_target_on_any_path() {
        let list = ("x-amz-target", "Route53AutoNaming_v20170314.ListNamespaces");
        for path in ["/", "/x", "/a/b?c=d", "/service/x"] {
            assert_eq!(route("POST", path, &[list]), (Protocol::Json, Ok(Action::ListNamespaces)));
        }
        for target in ["ListNamespaces", "X.ListNamespaces", "Route53AutoNaming_v20170314.Nope", "", "é"] {
            let result = route("POST", "/", &[("x-amz-target", target)]);
            assert_eq!(result, (Protocol::Json, Err("UnknownOperationException")), "{target}");
        }
        assert_eq!(route("POST", "/", &[]).1, Err("UnknownOperationException"));
        assert_eq!(route("GET", "/", &[]).1, Err("MethodNotAllowedException"));
    }

    #[test]
    fn cbor_is_routed_by_path() {
        let smithy = ("smithy-protocol", "rpc-v2-cbor");
        let path = "/service/Route53AutoNaming_v20170314/operation/DiscoverInstances";
        for headers in [&[smithy][..], &[]] {
            assert_eq!(route("POST", path, headers), (Protocol::Cbor, Ok(Action::DiscoverInstances)));
        }
        assert_eq!(
            route("POST", &format!("/x/y{path}"), &[]),
            (Protocol::Cbor, Ok(Action::DiscoverInstances))
        );
        let unknown = (Protocol::Cbor, Err("UnknownOperationException"));
        assert_eq!(route("POST", &path.replace("Discover", "Nope"), &[smithy]), unknown);
        for service in ["X", "", "route53autonaming_v20170314", "Route53AutoNaming"] {
            let other = path.replace(TARGET_PREFIX, service);
            assert_eq!(route("POST", &other, &[smithy]), unknown, "{service}");
        }
        assert_eq!(route("POST", "/", &[smithy]), unknown);
        assert_eq!(route("POST", path, &[("smithy-protocol", "rpc-v2-json")]), unknown);
        assert_eq!(route("GET", path, &[smithy]).1, Err("MethodNotAllowedException"));
    }
}
