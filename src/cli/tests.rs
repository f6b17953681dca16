use super::*;
use crate::config::SETTINGS;
use crate::config::tests::TestDirectory;
use std::net::TcpListener;
use std::process::Command;
use std::{fs, thread};

struct Outcome {
    exit: Exit,
    out: String,
    err: String,
    served: Option<Config>,
}

fn run_line(line: &str) -> Outcome {
    run_with(line, &[], &[], Ok(()))
}

fn run_with(
    line: &str,
    variables: &[(&str, &str)],
    zone_errors: &[&str],
    serve: anyhow::Result<()>,
) -> Outcome {
    let directory = TestDirectory::new();
    fs::write(directory.0.join("good.toml"), "region = 'eu-west-1'\nadmin = '127.0.0.1:9'\n").unwrap();
    fs::write(directory.0.join("bad.toml"), "regoin = 'eu-west-1'\nstore = 'disk'\n").unwrap();
    let invocation = Invocation {
        arguments: ["cloudmap-dns"].into_iter().chain(line.split_whitespace()).map(OsString::from).collect(),
        variables: variables.iter().map(|(name, value)| (name.into(), value.into())).collect(),
        directory: directory.0.clone(),
    };
    let (mut out, mut err, mut served) = (Vec::new(), Vec::new(), None);
    let hooks = Hooks {
        serve: |config| {
            served = Some(config);
            serve
        },
        check_zones: |_: &Config| zone_errors.iter().map(ToString::to_string).collect(),
        export: |_, out| Ok(writeln!(out, "a line")?),
        import: |_, _| Ok("imported".into()),
        resolve: |_| Vec::new(),
    };
    let exit = run(invocation, hooks, &mut out, &mut err);
    Outcome { exit, out: String::from_utf8(out).unwrap(), err: String::from_utf8(err).unwrap(), served }
}

#[test]
fn serve_is_the_default_and_gets_the_settings() {
    for line in [
        "--config good.toml --unknown withhold",
        "serve --config good.toml --unknown withhold",
        "--config bad.toml --unknown withhold serve --config good.toml",
    ] {
        let outcome = run_line(line);
        assert_eq!((outcome.exit, outcome.err.as_str()), (Exit::Success, ""), "{line}");
        let config = outcome.served.unwrap();
        assert_eq!(config.region, "eu-west-1");
        assert_eq!(config.unknown, config::UnknownHealth::Withhold);
    }
}

#[test]
fn serve_reports_its_error_with_its_causes() {
    let error = anyhow::anyhow!("in use").context("127.0.0.1:5300 cannot be listened on");
    let outcome = run_with("", &[], &[], Err(error));
    assert_eq!(outcome.exit, Exit::Failure);
    assert_eq!(outcome.err, "error: 127.0.0.1:5300 cannot be listened on: in use\n");
}

#[test]
fn wrong_settings_stop_the_start() {
    let outcome = run_with("--config bad.toml --api x", &[("CLOUDMAP_DNS_STOER", "memory")], &[], Ok(()));
    assert_eq!(outcome.exit, Exit::Usage);
    assert!(outcome.served.is_none());
    assert_eq!(
        outcome.err,
        "error: bad.toml:1:1: regoin: no setting has this key; the closest is region\n\
         error: bad.toml:2:9: store: `disk` is none of embedded, kubernetes, memory\n\
         error: CLOUDMAP_DNS_STOER: no setting has this variable; the closest is CLOUDMAP_DNS_STORE\n\
         error: --api: `x` is not an IP address and a port; write for example 127.0.0.1:5300 or [::1]:5300\n"
    );
}

#[test]
fn wrong_arguments_are_refused() {
    for (line, expected) in [
        ("--dsn 127.0.0.1:53", "--dsn"),
        ("sreve", "sreve"),
        ("--api 127.0.0.1:1 --api 127.0.0.1:2", "--api"),
        ("explain", "<NAME>"),
        ("env --shell csh", "csh"),
        ("zone shop.local --dns 127.0.0.1:53", "--dns"),
        ("completions", "<SHELL>"),
    ] {
        let outcome = run_line(line);
        assert_eq!((outcome.exit, outcome.out.as_str()), (Exit::Usage, ""), "{line}");
        assert!(outcome.err.starts_with("error: ") && outcome.err.contains(expected), "{}", outcome.err);
    }
}

#[test]
fn check_prints_every_error_or_ok() {
    let outcome = run_with("check --config bad.toml", &[], &["a.zone:3: no SOA", "b.zone:1: no NS"], Ok(()));
    assert_eq!((outcome.exit, outcome.out.as_str()), (Exit::Failure, ""));
    assert_eq!(
        outcome.err,
        "error: bad.toml:1:1: regoin: no setting has this key; the closest is region\n\
         error: bad.toml:2:9: store: `disk` is none of embedded, kubernetes, memory\n\
         error: a.zone:3: no SOA\n\
         error: b.zone:1: no NS\n"
    );
    let outcome = run_line("check --config good.toml");
    assert_eq!(
        (outcome.exit, outcome.out.as_str()),
        (Exit::Success, "ok: the settings; there are no zone files\n")
    );
    let outcome = run_line("check --zones /etc/zones");
    assert_eq!(outcome.out, "ok: the settings, and the zone files in /etc/zones\n");
    assert!(outcome.served.is_none());
}

/// Runs the script in a shell, and returns the values of the AWS variables. Returns `None`, with a message, if the shell is
/// not installed.
fn evaluated(shell: &str, script: &str, output: &str) -> Option<Vec<String>> {
    let names =
        ["ENDPOINT_URL_SERVICEDISCOVERY", "REGION", "DEFAULT_REGION", "ACCESS_KEY_ID", "SECRET_ACCESS_KEY"];
    let names = names.iter().chain(&["DISABLE_HOST_PREFIX_INJECTION", "PAGER"]);
    let print: String = names.map(|name| format!("printenv AWS_{name} || echo unset;")).collect();
    let mut command = Command::new(shell);
    command.args(["-c", &format!("{script}; {print}")]).env_clear().env("OUTPUT", output);
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", std::env::temp_dir());
    let run = match command.output() {
        Ok(run) => run,
        Err(error) if error.kind() == io::ErrorKind::NotFound && shell != "sh" => {
            eprintln!("{shell} is not installed: not tested with it");
            return None;
        }
        Err(error) => panic!("{shell}: {error}"),
    };
    assert!(
        run.status.success() && run.stderr.is_empty(),
        "{shell}: {}",
        String::from_utf8_lossy(&run.stderr)
    );
    Some(String::from_utf8(run.stdout).unwrap().lines().map(ToString::to_string).collect())
}

#[test]
fn environment_can_be_evaluated_by_shells() {
    let expected = ["http://127.0.0.1:5301", "eu-west-1", "eu-west-1", "test", "test", "true", ""];
    let output = run_line("env --region eu-west-1").out;
    for shell in ["sh", "bash", "zsh"] {
        let quoted = evaluated(shell, "eval \"$OUTPUT\"", &output);
        assert!(quoted.is_none_or(|values| values == expected), "{shell}");
    }
    // A user may forget the quotes around `$OUTPUT`, so that the shell joins the lines.
    for shell in ["sh", "bash"] {
        let joined = evaluated(shell, "eval $OUTPUT", &output);
        assert!(joined.is_none_or(|values| values == expected), "{shell}");
    }
    let fish = run_line("env --region eu-west-1 --shell fish").out;
    assert!(
        fish.starts_with("set -gx AWS_ENDPOINT_URL_SERVICEDISCOVERY 'http://127.0.0.1:5301';\n"),
        "{fish}"
    );
    let sourced = evaluated("fish", "echo $OUTPUT | source", &fish);
    assert!(sourced.is_none_or(|values| values == expected));
}

#[test]
fn environment_names_an_address_that_clients_can_reach() {
    for (api, endpoint, hosts) in [
        ("0.0.0.0:80", "http://127.0.0.1:80", "127.0.0.1 data-localhost"),
        ("[::]:80", "http://[::1]:80", "::1 data-localhost"),
        ("127.0.0.2:80", "http://127.0.0.2:80", "127.0.0.2 cloudmap-dns data-cloudmap-dns"),
        ("192.0.2.1:80", "http://192.0.2.1:80", "192.0.2.1 cloudmap-dns data-cloudmap-dns"),
    ] {
        let output = run_line(&format!("env --api {api}")).out;
        assert!(output.contains(&format!("SERVICEDISCOVERY='{endpoint}';\n")), "{output}");
        assert!(output.contains(&format!("#   {hosts}\n")), "{output}");
    }
    let outcome = run_line("env --api 127.0.0.1:0");
    assert_eq!((outcome.exit, outcome.out.as_str()), (Exit::Usage, ""));
    assert!(outcome.err.contains("--api ADDR:PORT"), "{}", outcome.err);
}

#[test]
fn environment_names_an_endpoint_whose_prefixed_form_resolves() {
    let localhost = ["localhost", "data-localhost"].as_slice();
    let below = ["localhost", "cloudmap.localhost", "data-cloudmap.localhost"].as_slice();
    for (api, resolved, addresses, endpoint) in [
        ("127.0.0.1:80", localhost, ["127.0.0.1", "::1"].as_slice(), "http://localhost:80"),
        ("[::1]:80", localhost, &["127.0.0.1", "::1"], "http://localhost:80"),
        ("127.0.0.1:80", below, &["::1", "127.0.0.1"], "http://cloudmap.localhost:80"),
        ("127.0.0.1:80", &["localhost"], &["127.0.0.1"], "http://127.0.0.1:80"),
        // The names resolve to another host, such as through a search domain with a wildcard.
        ("127.0.0.1:80", localhost, &["192.0.2.1"], "http://127.0.0.1:80"),
        ("127.0.0.2:80", below, &["127.0.0.1"], "http://127.0.0.2:80"),
        ("192.0.2.1:80", &["cloudmap-dns", "data-cloudmap-dns"], &["192.0.2.1"], "http://cloudmap-dns:80"),
        ("192.0.2.1:80", &["data-cloudmap-dns"], &["192.0.2.1"], "http://192.0.2.1:80"),
        ("192.0.2.1:80", below, &["192.0.2.1"], "http://192.0.2.1:80"),
    ] {
        let found: Vec<IpAddr> = addresses.iter().map(|address| address.parse().unwrap()).collect();
        let resolve = |name: &str| if resolved.contains(&name) { found.clone() } else { Vec::new() };
        let output = environment::lines(api.parse().unwrap(), "us-east-1", Dialect::Sh, resolve);
        assert!(
            output.contains(&format!("SERVICEDISCOVERY='{endpoint}';\n")),
            "{api} {resolved:?}: {output}"
        );
    }
}

fn admin_port(answer: &'static str) -> (SocketAddr, thread::JoinHandle<String>) {
    use std::io::{BufRead, BufReader};
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let lines: Vec<String> = BufReader::new(stream.try_clone().unwrap())
            .lines()
            .map(Result::unwrap)
            .take_while(|line| !line.is_empty())
            .collect();
        stream.write_all(answer.as_bytes()).unwrap();
        lines.into_iter().next().unwrap()
    });
    (address, server)
}

#[test]
fn explain_and_zone_query_the_running_server() {
    for (line, request) in [
        ("explain web.shop.local", "GET /explain?name=web.shop.local&type=A HTTP/1.0"),
        ("explain *.shop.local SRV", "GET /explain?name=%2A.shop.local&type=SRV HTTP/1.0"),
        ("zone shop.local", "GET /zone?name=shop.local HTTP/1.0"),
    ] {
        let (address, server) = admin_port("HTTP/1.0 200 OK\r\n\r\nbecause");
        let outcome = run_line(&format!("{line} --admin {address}"));
        assert_eq!(
            (outcome.exit, outcome.out.as_str(), outcome.err.as_str()),
            (Exit::Success, "because\n", "")
        );
        assert_eq!(server.join().unwrap(), request);
    }
}

#[test]
fn errors_of_the_server_are_printed_unchanged() {
    let (address, server) = admin_port("HTTP/1.0 404 Not Found\r\n\r\nno zone x\nzones: a, b\n");
    let outcome = run_line(&format!("zone x --admin {address}"));
    server.join().unwrap();
    let Outcome { exit, out, err, .. } = outcome;
    assert_eq!((exit, out.as_str(), err.as_str()), (Exit::Failure, "", "no zone x\nzones: a, b\n"));
}

#[test]
fn a_missing_server_is_a_failure_with_a_remedy() {
    let outcome = run_line("explain web.shop.local --admin 127.0.0.1:0");
    assert_eq!(outcome.exit, Exit::Failure);
    assert!(outcome.err.starts_with("error: the admin port is 0"), "{}", outcome.err);
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let outcome = run_line(&format!("zone x --admin {free}"));
    assert_eq!(outcome.exit, Exit::Failure);
    assert!(
        outcome.err.starts_with(&format!("error: no server answers at http://{free} (")),
        "{}",
        outcome.err
    );
}

#[test]
fn help_completions_and_manual_name_every_flag() {
    let manual = run_line("man").out.replace('\\', "");
    let mut texts = vec![("man".to_string(), manual), ("help".to_string(), run_line("--help").out)];
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        texts.push((shell.to_string(), run_line(&format!("completions {shell}")).out));
    }
    for (name, text) in texts {
        for flag in SETTINGS.iter().map(|setting| setting.flag).chain(["config"]) {
            let named = text.contains(&format!("--{flag}")) || text.contains(&format!("-l {flag} "));
            assert!(named, "{name} lacks {flag}");
        }
    }
}

#[test]
fn version_and_help_go_to_standard_output() {
    let outcome = run_line("--version");
    assert_eq!(outcome.exit, Exit::Success);
    assert_eq!(outcome.out, format!("cloudmap-dns {}\n", env!("CARGO_PKG_VERSION")));
    let outcome = run_line("explain --help");
    assert_eq!((outcome.exit, outcome.err.as_str()), (Exit::Success, ""));
    assert!(outcome.out.contains("--admin") && !outcome.out.contains("--max-services"), "{}", outcome.out);
}

#[test]
fn definition_of_the_command_line_is_sound() {
    command().debug_assert();
}

#[test]
fn a_closed_output_pipe_is_no_error() {
    struct Gone;
    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut err = Vec::new();
    for line in [vec!["x", "man"], vec!["x", "completions", "zsh"], vec!["x", "env"], vec!["x", "--help"]] {
        let arguments = line.into_iter().map(OsString::from).collect();
        let hooks = Hooks {
            serve: |_| Ok(()),
            check_zones: |_: &Config| Vec::new(),
            export: |_, _| Ok(()),
            import: |_, _| Ok(String::new()),
            resolve: |_| Vec::new(),
        };
        let invocation = Invocation { arguments, ..Invocation::default() };
        assert_eq!(run(invocation, hooks, &mut Gone, &mut err), Exit::Success);
    }
    assert_eq!(err, b"");
}
