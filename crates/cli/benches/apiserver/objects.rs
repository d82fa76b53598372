//! What is written: the usual fields, little else.

/// Path of the Services.
pub(crate) const SERVICES: &str = "/api/v1/namespaces/default/services";
/// Path of their EndpointSlices.
pub(crate) const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
/// A merge patch that changes nothing else.
pub(crate) const LABEL: &str = r#"{"metadata":{"labels":{"seen":"yes"}}}"#;

/// A Service without selector: its EndpointSlice is the writer's.
pub(crate) fn service(number: usize) -> String {
    format!(
        r#"{{"apiVersion":"v1","kind":"Service","metadata":{{"name":"s-{number}","labels":{{"app":"a-{number}"}}}},"spec":{{"ports":[{{"name":"http","port":80,"targetPort":8080}}]}}}}"#
    )
}

/// Three endpoints.
pub(crate) fn slice(number: usize) -> String {
    let (high, low) = (number / 80, number % 80 * 3);
    let endpoints: Vec<String> = (1..=3)
        .map(|last| {
            format!(
                r#"{{"addresses":["10.244.{high}.{}"],"conditions":{{"ready":true}},"nodeName":"node{last}"}}"#,
                low + last
            )
        })
        .collect();
    format!(
        r#"{{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{{"name":"s-{number}-x","labels":{{"kubernetes.io/service-name":"s-{number}"}}}},"addressType":"IPv4","endpoints":[{}],"ports":[{{"name":"http","port":8080,"protocol":"TCP"}}]}}"#,
        endpoints.join(",")
    )
}
