mod audience;
mod block;
mod client;
mod dropped;
mod inspect;

use http::{HeaderMap, HeaderName, HeaderValue};

/// A header map from lines as they are sent.
fn headers(lines: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        );
    }
    headers
}
