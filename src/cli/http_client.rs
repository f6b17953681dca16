//! A minimal HTTP client for requests to the ports of the running server.
//!
//! It speaks HTTP/1.0 over a blocking socket: one request for each connection, whose end is the end of the response. It
//! waits at most [`TIMEOUT`] for the connection and for each part of the response, and reads at most [`BYTES_MAX`].

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde::Deserialize;

/// Time that the server has to accept the connection, to read the request, and to send each part of the response.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Time that the server has to send each part of its response to a change, which it may take 30 seconds to confirm.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(35);

/// Longest response that is read, in bytes and including its head.
const BYTES_MAX: u64 = 64 << 20;

/// One of the server's HTTP ports, which is named by the setting of its address.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Port {
    Admin,
    Api,
}

impl Port {
    fn flag(self) -> &'static str {
        match self {
            Port::Admin => "admin",
            Port::Api => "api",
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub(super) enum ServerError {
    #[error(
        "no server answers at http://{address} ({reason}); start one with `cloudmap-dns serve`, or name its address \
         with --{flag} ADDR:PORT or CLOUDMAP_DNS_{}", .flag.to_ascii_uppercase()
    )]
    Unreachable { flag: &'static str, address: SocketAddr, reason: io::Error },
    #[error(
        "the {flag} port is 0, so it is chosen when the server starts; give the real one with --{flag} ADDR:PORT"
    )]
    PortUnknown { flag: &'static str },
    #[error(
        "http://{address} did not answer as a cloudmap-dns {flag} port ({reason}); check --{flag} ADDR:PORT"
    )]
    Malformed { flag: &'static str, address: SocketAddr, reason: String },
    /// The server responded with an error. The text of its response is printed unchanged.
    #[error("{body}")]
    Status { body: String },
}

impl ServerError {
    /// The error for a response of the API's port that is not understood.
    pub(super) fn not_api(address: SocketAddr, reason: String) -> ServerError {
        ServerError::Malformed { flag: Port::Api.flag(), address, reason }
    }

    /// Takes the member `message` out of an error in JSON.
    pub(super) fn with_message(self) -> ServerError {
        #[derive(Deserialize)]
        struct Message {
            message: String,
        }
        match self {
            ServerError::Status { body } => match serde_json::from_str(&body) {
                Ok(Message { message }) => ServerError::Status { body: format!("error: {message}") },
                Err(_) => ServerError::Status { body },
            },
            error => error,
        }
    }
}

/// Sends a GET request to the admin port and returns the body of the response.
///
/// # Errors
///
/// No server answers at the address, the answer is not that of an admin port, or its status is not 200.
pub(super) fn get(address: SocketAddr, path: &str, query: &[(&str, &str)]) -> Result<Vec<u8>, ServerError> {
    let query: Vec<String> =
        query.iter().map(|(key, value)| format!("{key}={}", percent_encoded(value))).collect();
    request(Port::Admin, address, &format!("GET {path}?{}", query.join("&")), "")
}

/// Sends a PUT request with a JSON body to the API's port and returns the body of the response.
///
/// # Errors
///
/// No server answers at the address, the answer is not HTTP, or its status is not 200.
pub(super) fn put(address: SocketAddr, path: &str, json: &str) -> Result<Vec<u8>, ServerError> {
    request(Port::Api, address, &format!("PUT {path}"), json)
}

fn request(port: Port, address: SocketAddr, target: &str, body: &str) -> Result<Vec<u8>, ServerError> {
    let flag = port.flag();
    if address.port() == 0 {
        return Err(ServerError::PortUnknown { flag });
    }
    let length = match body {
        "" => String::new(),
        body => format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len()),
    };
    let request = format!(
        "{target} HTTP/1.0\r\nHost: {address}\r\nUser-Agent: cloudmap-dns/{}\r\n{length}Connection: close\r\n\r\n{body}",
        env!("CARGO_PKG_VERSION")
    );
    let answer = exchange(address, &request, if body.is_empty() { TIMEOUT } else { CHANGE_TIMEOUT })
        .map_err(|reason| ServerError::Unreachable { flag, address, reason })?;
    let malformed = |reason: String| ServerError::Malformed { flag, address, reason };
    if answer.len() as u64 > BYTES_MAX {
        return Err(malformed(format!("more than {BYTES_MAX} bytes")));
    }
    let (status, body) = parse(&answer).map_err(|reason| malformed(reason.to_string()))?;
    if status == 200 {
        return Ok(body.to_vec());
    }
    let body = String::from_utf8_lossy(body).trim_end().to_string();
    if body.is_empty() {
        Err(malformed(format!("status {status}")))
    } else {
        Err(ServerError::Status { body })
    }
}

fn exchange(address: SocketAddr, request: &str, timeout: Duration) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(BYTES_MAX + 1).read_to_end(&mut answer).map_err(|error| match error.kind() {
        // The system's text for a socket timeout, such as "Resource temporarily unavailable", does not help a user.
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            io::Error::new(io::ErrorKind::TimedOut, format!("nothing for {} s", timeout.as_secs()))
        }
        _ => error,
    })?;
    Ok(answer)
}

fn parse(answer: &[u8]) -> Result<(u16, &[u8]), &'static str> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").ok_or("not HTTP")?;
    let head = std::str::from_utf8(&answer[..end]).map_err(|_| "not HTTP")?;
    let body = &answer[end + 4..];
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok());
    let fields = lines.filter_map(|line| line.split_once(':'));
    let length = fields
        .filter(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .find_map(|(_, value)| value.trim().parse::<usize>().ok());
    if length.is_some_and(|length| length != body.len()) {
        return Err("the answer was cut off");
    }
    Ok((status.ok_or("not HTTP")?, body))
}

fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread;

    fn answering(answer: &'static str) -> (SocketAddr, thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                request.push(byte[0]);
            }
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8(request).unwrap()
        });
        (address, server)
    }

    #[test]
    fn the_body_is_returned_and_query_values_are_escaped() {
        let (address, server) = answering("HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nyes");
        let body = get(address, "/explain", &[("name", "a b&c=\u{e9}.x"), ("type", "A")]).unwrap();
        assert_eq!(body, b"yes");
        let request = server.join().unwrap();
        assert!(
            request.starts_with("GET /explain?name=a%20b%26c%3D%C3%A9.x&type=A HTTP/1.0\r\n"),
            "{request}"
        );
        assert!(request.contains("\r\nConnection: close\r\n"), "{request}");
    }

    #[test]
    fn unusable_responses_are_reported_with_the_reason() {
        for (answer, expected) in [
            ("HTTP/1.1 404 Not Found\r\n\r\nno such zone\n", "no such zone"),
            ("HTTP/1.1 503 Service Unavailable\r\n\r\n", "(status 503)"),
            ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf", "(the answer was cut off)"),
            ("SSH-2.0-OpenSSH\r\n", "(not HTTP)"),
            ("", "(not HTTP)"),
        ] {
            let (address, server) = answering(answer);
            let error = get(address, "/zone", &[("name", "x")]).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            server.join().unwrap();
        }
    }

    #[test]
    fn a_missing_server_is_reported_with_a_remedy() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let error = get(address, "/zone", &[]).unwrap_err().to_string();
        assert!(error.starts_with(&format!("no server answers at http://{address} (")), "{error}");
        assert!(error.contains("cloudmap-dns serve") && error.contains("--admin ADDR:PORT"), "{error}");
    }
}
