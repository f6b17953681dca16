use super::*;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};

pub(crate) struct TestDirectory(pub(crate) PathBuf);

impl TestDirectory {
    pub(crate) fn new() -> TestDirectory {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("cloudmap-dns-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        TestDirectory(path)
    }
}

impl Drop for TestDirectory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[derive(Default)]
struct Case<'a> {
    file: Option<&'a [u8]>,
    variables: &'a [(&'a str, &'a str)],
    flags: &'a [(&'a str, &'a [&'a str])],
}

impl Case<'_> {
    fn load(&self) -> Result<Config, WrongSettings> {
        let directory = TestDirectory::new();
        let variables = self.variables.iter().map(|(name, value)| (name.into(), value.into()));
        let strings = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
        let flags = self.flags.iter().map(|(flag, values)| (flag.to_string(), strings(values)));
        let mut sources = Sources {
            flags: flags.collect(),
            variables: variables.collect(),
            directory: directory.0.clone(),
        };
        if let Some(text) = self.file {
            fs::write(directory.0.join("settings.toml"), text).unwrap();
            sources.flags.insert("config".to_string(), vec!["settings.toml".to_string()]);
        }
        load(&sources)
    }

    fn errors(&self) -> Vec<String> {
        self.load().unwrap_err().errors.iter().map(ToString::to_string).collect()
    }
}

fn file_errors(text: &str) -> Vec<String> {
    Case { file: Some(text.as_bytes()), ..Case::default() }.errors()
}

/// Returns two values of a setting. They differ from each other and, if the setting has more than two values, from its
/// default.
fn samples(setting: &Setting) -> [String; 2] {
    let other = HashMap::from([
        ("dns", ["127.0.0.1:53,[::1]:53", "0.0.0.0:0"]),
        ("api", ["127.0.0.1:80", "[::]:0"]),
        ("admin", ["127.0.0.1:81", "[::1]:81"]),
        ("dot", ["127.0.0.1:853", "0.0.0.0:853,[::]:853"]),
        ("doh", ["127.0.0.1:443", "0.0.0.0:443,[::]:443"]),
        ("doq", ["127.0.0.1:853", "0.0.0.0:853,[::]:853"]),
        ("tls-certificate", ["/tls/tls.crt", "own.crt"]),
        ("tls-key", ["/tls/tls.key", "own.key"]),
        ("data-dir", ["/var/lib/cloudmap-dns", "data"]),
        ("zones", ["/etc/zones", "more zones"]),
        ("store-namespace", ["dns", "cloudmap-2"]),
        ("region", ["eu-central-1", "ap-south-1"]),
        ("account-id", ["123456789012", "000000000001"]),
        ("log-level", ["debug", "warn,cloudmap_dns=trace"]),
        ("ns-address", ["192.0.2.1", "192.0.2.2,2001:db8::2"]),
        ("transfer-allow", ["10.0.0.0/8", "192.0.2.1/32,2001:db8::/32"]),
        ("notify", ["192.0.2.1:53", "192.0.2.2:53,[2001:db8::2]:53"]),
        ("kubeconfig", ["/etc/kubeconfig", "cluster/config"]),
        ("coredns-forward", ["10.43.0.53:53", "[fd00:43::53]:53"]),
        ("coredns-service", ["dns", "cloudmap-2"]),
        ("server-id", ["ns1.example", "pod-7"]),
        ("minimum-healthy", ["50%", "2"]),
        ("grace", ["30s", "1h"]),
        ("up-after", ["3", "30s"]),
        ("down-after", ["2", "5m"]),
        ("heartbeat", ["90s", "24h"]),
        ("expire", ["1h", "20s"]),
        ("custom-health-delay", ["30s", "1m"]),
        ("settling-ttl", ["5s", "10s"]),
        ("checks-allow", ["10.0.0.0/8", "192.0.2.1/32,2001:db8::/32"]),
        ("webhook-service-label", ["job", "_service"]),
        ("webhook-instance-label", ["task", "id2"]),
        ("webhook-address-label", ["pod_ip", "address"]),
        ("cookie-secret", ["e5e973e5a6b2a43f48e7dc849e37bfcf", "445536bcd2513298075a5d379663c962"]),
    ]);
    let texts = match (setting.file_type, setting.words.as_slice()) {
        (_, [first, .., last]) => [last, first],
        (rule::FileType::Integer, _) => {
            let default: u64 = setting.value_in(&Config::default()).parse().unwrap();
            return [(default.checked_sub(1).unwrap_or(2)).to_string(), (default + 1).to_string()];
        }
        _ => other.get(setting.flag).expect("a sample for each setting").each_ref(),
    };
    texts.map(ToString::to_string)
}

fn in_file(setting: &Setting, value: &str) -> String {
    let value = match setting.file_type {
        rule::FileType::Integer | rule::FileType::Boolean => value.to_string(),
        rule::FileType::String => format!("{value:?}"),
        rule::FileType::Strings => format!("{:?}", value.split(',').collect::<Vec<_>>()),
    };
    match setting.key.split_once('.') {
        Some((table, key)) => format!("[{table}]\n{key} = {value}\n"),
        None => format!("{} = {value}\n", setting.key),
    }
}

#[test]
fn stronger_sources_override_weaker_ones_for_every_setting() {
    for setting in SETTINGS.iter() {
        let [one, two] = samples(setting);
        let default = setting.value_in(&Config::default());
        for (file, variable, flag, expected) in [
            (None, None, None, &default),
            (Some(&one), None, None, &one),
            (Some(&two), None, None, &two),
            (Some(&one), Some(&two), None, &two),
            (Some(&two), Some(&one), None, &one),
            (Some(&one), None, Some(&two), &two),
            (None, Some(&one), Some(&two), &two),
            (None, Some(&two), Some(&one), &one),
            (Some(&one), Some(&one), Some(&two), &two),
            (Some(&one), Some(&String::new()), None, &one),
        ] {
            let text = file.map(|value| in_file(setting, value));
            let variables: Vec<(&str, &str)> =
                variable.map(|value| (setting.variable.as_str(), value.as_str())).into_iter().collect();
            let values: Vec<&str> = flag.map(|value| value.as_str()).into_iter().collect();
            let flags: &[(&str, &[&str])] =
                if values.is_empty() { &[] } else { &[(setting.flag, values.as_slice())] };
            let case = Case { file: text.as_deref().map(str::as_bytes), variables: &variables, flags };
            let config = case.load().unwrap_or_else(|wrong| panic!("{}: {wrong}", setting.flag));
            assert_eq!(&setting.value_in(&config), expected, "{} from {text:?} {variables:?}", setting.flag);
        }
    }
}

#[test]
fn flag_variable_and_key_of_a_setting_have_one_name() {
    for setting in SETTINGS.iter() {
        let name = setting.flag.replace('-', "_").to_uppercase();
        assert_eq!(setting.variable, format!("CLOUDMAP_DNS_{name}"));
        let (table, key) = setting.key.split_once('.').unwrap_or(("", setting.key));
        assert!(setting.flag == key || setting.flag == format!("{table}-{key}"), "{}", setting.key);
    }
}

#[test]
fn defaults_are_the_documented_ones() {
    let config = Case::default().load().unwrap();
    assert_eq!(config, Config::default());
    let shown: Vec<(&str, String)> =
        SETTINGS.iter().map(|setting| (setting.flag, setting.value_in(&config))).collect();
    let expected = [
        ("dns", "127.0.0.1:5300"),
        ("api", "127.0.0.1:5301"),
        ("admin", "127.0.0.1:5302"),
        ("dot", ""),
        ("doh", ""),
        ("doq", ""),
        ("tls-certificate", ""),
        ("tls-key", ""),
        ("data-dir", ".cloudmap-dns"),
        ("store", "embedded"),
        ("store-namespace", ""),
        ("zones", ""),
        ("region", "us-east-1"),
        ("account-id", "000000000000"),
        ("validation", "lenient"),
        ("log-format", "auto"),
        ("log-level", "info"),
        ("fail-open", "false"),
        ("minimum-healthy", "0"),
        ("unknown", "fallback"),
        ("health-of", "pod"),
        ("grace", "0s"),
        ("up-after", "1"),
        ("down-after", "1"),
        ("heartbeat", "0s"),
        ("expire", "0s"),
        ("custom-health-delay", "0s"),
        ("settling-ttl", "0s"),
        ("checks-allow", ""),
        ("checks-interval", "30"),
        ("webhook", "off"),
        ("webhook-service-label", "cloudmap_service"),
        ("webhook-instance-label", "cloudmap_instance"),
        ("webhook-address-label", "instance"),
        ("answer-max", "8"),
        ("ns-address", ""),
        ("negative-ttl", "5"),
        ("server-id", ""),
        ("cookie-secret", ""),
        ("workers", "0"),
        ("udp-loop", "auto"),
        ("rate-limit-per-second", "0"),
        ("rate-limit-slip", "2"),
        ("transfer-allow", "127.0.0.0/8,::1/128"),
        ("notify", ""),
        ("kubeconfig", ""),
        ("instance-id", "task"),
        ("mirror", ""),
        ("mirror-endpoints", "on"),
        ("drain-annotation", "off"),
        ("shadow", "off"),
        ("coredns", "off"),
        ("coredns-forward", ""),
        ("coredns-service", "cloudmap"),
        ("max-namespaces", "10000"),
        ("max-services", "1000000"),
        ("max-instances-per-service", "1000"),
        ("max-instances", "4000000"),
        ("max-attributes-per-instance", "30"),
        ("max-tags-per-resource", "50"),
        ("max-service-attributes", "30"),
        ("operations-retained", "10000"),
        ("api-body-bytes-max", "1048576"),
        ("api-connections-max", "4096"),
        ("metrics-services", "100"),
        ("metrics-coredns", "off"),
        ("api-request-timeout-ms", "30000"),
        ("tcp-idle-timeout-ms", "30000"),
        ("tcp-connections-max", "16384"),
        ("tcp-connections-per-client-max", "1024"),
    ];
    assert_eq!(shown, expected.map(|(flag, value)| (flag, value.to_string())));
}

#[test]
fn zones_directory_is_used_when_it_exists() {
    let directory = TestDirectory::new();
    let mut sources = Sources { directory: directory.0.clone(), ..Sources::default() };
    fs::write(directory.0.join("zones"), "a file, not a directory").unwrap();
    assert_eq!(load(&sources).unwrap().zones, None);
    fs::remove_file(directory.0.join("zones")).unwrap();
    fs::create_dir(directory.0.join("zones")).unwrap();
    assert_eq!(load(&sources).unwrap().zones, Some(PathBuf::from("zones")));
    sources.flags = BTreeMap::from([("zones".to_string(), vec!["other".to_string()])]);
    assert_eq!(load(&sources).unwrap().zones, Some(PathBuf::from("other")));
}

#[test]
fn lists_can_be_repeated_or_separated_by_commas() {
    let expected: Vec<SocketAddr> = vec!["127.0.0.1:53".parse().unwrap(), "[::1]:53".parse().unwrap()];
    for case in [
        Case { flags: &[("dns", &["127.0.0.1:53", "[::1]:53"])], ..Case::default() },
        Case { flags: &[("dns", &["127.0.0.1:53,[::1]:53"])], ..Case::default() },
        Case { variables: &[("CLOUDMAP_DNS_DNS", "127.0.0.1:53, [::1]:53")], ..Case::default() },
        Case { file: Some(b"dns = ['127.0.0.1:53', '[::1]:53']"), ..Case::default() },
        Case { file: Some(b"dns = '127.0.0.1:53,[::1]:53'"), ..Case::default() },
    ] {
        assert_eq!(case.load().unwrap().dns, expected);
    }
}

#[test]
fn wrong_values_of_flags_and_variables_are_refused() {
    for (flag, value, expected) in [
        ("dns", "", "`` is not an IP address and a port; write for example 127.0.0.1:5300 or [::1]:5300"),
        ("dns", "127.0.0.1:53,127.0.0.1:53", "`127.0.0.1:53` is given twice"),
        (
            "api",
            "localhost:80",
            "`localhost:80` is not an IP address and a port; write for example 127.0.0.1:5300 or [::1]:5300",
        ),
        ("api", "127.0.0.1:5300", "api 127.0.0.1:5300 overlaps dns 127.0.0.1:5300; give each its own port"),
        ("dns", "0.0.0.0:5302", "dns 0.0.0.0:5302 overlaps admin 127.0.0.1:5302; give each its own port"),
        ("zones", "", "an empty path; name a directory"),
        ("kubeconfig", "", "an empty path; name a file"),
        ("instance-id", "arn", "`arn` is none of task, pod"),
        ("store", "disk", "`disk` is none of embedded, kubernetes, memory"),
        (
            "region",
            "us east",
            "`us east` is not a region; use 1 to 32 lowercase letters, digits and hyphens, as in us-east-1",
        ),
        ("server-id", "a b", "`a b` is not a server's id; use 1 to 64 visible ASCII characters"),
        ("cookie-secret", "1234", "a secret is exactly 32 hexadecimal digits (16 bytes)"),
        ("account-id", "1234", "`1234` is not an account id of exactly 12 digits"),
        ("log-format", "xml", "`xml` is none of auto, text, json"),
        (
            "log-level",
            "infoo",
            "`infoo` is not a log level; use off, error, warn, info, debug or trace, or target=level, separated by commas",
        ),
        (
            "log-level",
            "",
            "`` is not a log level; use off, error, warn, info, debug or trace, or target=level, separated by commas",
        ),
        (
            "log-level",
            "a=loud",
            "`a=loud` is not a log filter; use off, error, warn, info, debug or trace, or target=level, separated by commas",
        ),
        ("fail-open", "yes", "`yes` is neither true nor false"),
        (
            "minimum-healthy",
            "101%",
            "`101%` is not a number of instances from 0 to 1000000, or a share of them from 0% to 100%",
        ),
        ("answer-max", "65", "`65` is not a whole number within 1 to 64 records"),
        ("ns-address", "0.0.0.0", "`0.0.0.0` is not the address of a host; name one that clients can reach"),
        (
            "ns-address",
            "192.0.2.1:53",
            "`192.0.2.1:53` is not an IP address; write one such as 192.0.2.1 or 2001:db8::1",
        ),
        ("negative-ttl", "2147483648", "`2147483648` is not a whole number within 0 to 2147483647 seconds"),
        ("negative-ttl", "-1", "`-1` is not a whole number within 0 to 2147483647 seconds"),
        ("negative-ttl", "5s", "`5s` is not a whole number within 0 to 2147483647 seconds"),
        ("max-instances", "0", "`0` is not a whole number within 1 to 100000000 instances"),
        ("api-body-bytes-max", "1", "`1` is not a whole number within 1024 to 67108864 bytes"),
        (
            "tcp-idle-timeout-ms",
            "99999999999999999999",
            "`99999999999999999999` is not a whole number within 100 to 600000 milliseconds",
        ),
    ] {
        let errors = Case { flags: &[(flag, &[value])], ..Case::default() }.errors();
        assert_eq!(errors, [format!("--{flag}: {expected}")]);
        let variable = setting::variable_of(flag);
        if !value.is_empty() {
            let errors = Case { variables: &[(&variable, value)], ..Case::default() }.errors();
            assert_eq!(errors, [format!("{variable}: {expected}")]);
        }
    }
}

#[test]
fn limits_are_inclusive() {
    for (flag, values) in [
        ("negative-ttl", ["0", "2147483647"]),
        ("max-namespaces", ["1", "1000000"]),
        ("api-body-bytes-max", ["1024", "67108864"]),
        ("tcp-idle-timeout-ms", ["100", "600000"]),
    ] {
        for value in values {
            Case { flags: &[(flag, &[value])], ..Case::default() }.load().unwrap();
        }
    }
}

#[test]
fn errors_in_the_file_have_line_and_column() {
    for (text, expected) in [
        ("store = 'disk'", "1:9: store: `disk` is none of embedded, kubernetes, memory"),
        ("# \u{e4}\n  api = 80", "2:9: api: an integer, but it takes a string in quotes"),
        ("[log]\nformat = 'xml'", "2:10: log.format: `xml` is none of auto, text, json"),
        ("log.format = 'xml'", "1:14: log.format: `xml` is none of auto, text, json"),
        (
            "log = { format = '\u{e4}', level = 'info' }",
            "1:18: log.format: `\u{e4}` is none of auto, text, json",
        ),
        (
            "dns = [\n  '127.0.0.1:53',\n  'x',\n]",
            "3:3: dns: `x` is not an IP address and a port; write for example 127.0.0.1:5300 or [::1]:5300",
        ),
        ("dns = ['127.0.0.1:53', 53]", "1:24: dns: an integer, but each item is a string"),
        ("dns = []", "1:7: dns: no value, but it needs at least one"),
        ("dns = 53", "1:7: dns: an integer, but it takes an array of strings, or one string"),
        ("[dns]\ntcp = 1", "1:1: dns: a table, but it takes an array of strings, or one string"),
        (
            "[health]\nfail-open = 'true'",
            "2:13: health.fail-open: a string, but it takes true or false without quotes",
        ),
        (
            "[quotas]\nmax-services = 1.5",
            "2:16: quotas.max-services: a float, but it takes an integer without quotes",
        ),
        ("negative-ttl = -0x1", "1:16: "),
        (
            "negative-ttl = 0xffff_ffff",
            "1:16: negative-ttl: `4294967295` is not a whole number within 0 to 2147483647 seconds",
        ),
        ("account-id = 123456789012", "1:14: account-id: an integer, but it takes a string in quotes"),
        ("log = 'json'", "1:7: log: a string, but it is a table with format, level"),
        ("[[log]]\nformat = 'json'", "1:1: log: an array, but it is a table with format, level"),
        ("data_dir = 'x'", "1:1: data_dir: no setting has this key; the closest is data-dir"),
        ("log-level = 'info'", "1:1: log-level: no setting has this key; the closest is log.level"),
        (
            "[quota]\nmax-tags-per-resource = 1",
            "2:1: quota.max-tags-per-resource: no setting has this key; the closest is quotas.max-tags-per-resource",
        ),
        ("[limit]", "1:2: limit: no setting has this key; the closest is "),
        (
            "api = '127.0.0.1:5302'",
            "1:7: api 127.0.0.1:5302 overlaps admin 127.0.0.1:5302; give each its own port",
        ),
    ] {
        let errors = file_errors(text);
        assert_eq!(errors.len(), 1, "{text}: {errors:?}");
        assert!(errors[0].starts_with(&format!("settings.toml:{expected}")), "{text}: {errors:?}");
    }
}

#[test]
fn errors_of_all_sources_are_reported_together() {
    let case = Case {
        file: Some(b"zone = 'x'\nstore = 'disk'\n[log]\nlevel = 1\n[a]\nb = 1\n"),
        variables: &[("CLOUDMAP_DNS_APIS", "x"), ("CLOUDMAP_DNS_UNKNOWN", "drop"), ("OTHER", "x")],
        flags: &[("region", &["X"]), ("store", &["memory"])],
    };
    let errors = case.errors();
    let locations: Vec<&str> = errors.iter().filter_map(|error| error.split(": ").next()).collect();
    assert_eq!(
        locations,
        [
            "settings.toml:1:1",
            "settings.toml:2:9",
            "settings.toml:4:9",
            "settings.toml:6:1",
            "CLOUDMAP_DNS_APIS",
            "CLOUDMAP_DNS_UNKNOWN",
            "--region"
        ]
    );
}

#[test]
fn malformed_toml_is_reported_with_line_and_column() {
    let errors = file_errors("store = \nregion = 'a'\nregion = 'b'\n[log\n");
    let locations: Vec<&str> = errors.iter().filter_map(|error| error.split(": ").next()).collect();
    assert!(locations.contains(&"settings.toml:3:1"), "{errors:?}");
    assert!(locations.iter().any(|location| location.starts_with("settings.toml:1:")), "{errors:?}");
    assert!(errors.iter().all(|error| !error.contains('\n')), "{errors:?}");
}

#[test]
fn an_unusable_settings_file_is_blamed_on_its_flag_or_variable() {
    let flag = Case { flags: &[("config", &["missing.toml"])], ..Case::default() }.errors();
    assert!(flag[0].starts_with("--config: `missing.toml` cannot be read: "), "{flag:?}");
    let variable = Case { variables: &[("CLOUDMAP_DNS_CONFIG", "missing.toml")], ..Case::default() }.errors();
    assert!(variable[0].starts_with("CLOUDMAP_DNS_CONFIG: `missing.toml` cannot be read: "), "{variable:?}");
    let bytes = Case { file: Some(b"# \n\xff"), ..Case::default() }.errors();
    assert_eq!(bytes, ["--config: `settings.toml` is not UTF-8 text at line 2"]);
    let long = vec![b'\n'; FILE_BYTES_MAX as usize + 1];
    let long = Case { file: Some(&long), ..Case::default() }.errors();
    assert_eq!(long, ["--config: `settings.toml` is longer than 1048576 bytes, too long for settings"]);
}

#[test]
fn errors_for_unknown_variables_suggest_the_closest_one() {
    for (name, closest) in [
        ("CLOUDMAP_DNS_LOGLEVEL", "CLOUDMAP_DNS_LOG_LEVEL"),
        ("CLOUDMAP_DNS_CONFIGS", "CLOUDMAP_DNS_CONFIG"),
        ("CLOUDMAP_DNS_PORT", "CLOUDMAP_DNS_DOT"),
    ] {
        let errors = Case { variables: &[(name, "53")], ..Case::default() }.errors();
        assert_eq!(errors, [format!("{name}: no setting has this variable; the closest is {closest}")]);
    }
    Case { variables: &[("CLOUDMAP_DNS_LOGLEVEL", "")], ..Case::default() }.load().unwrap();
}

/// Kubernetes sets such variables in pods for the Services `cloudmap-dns` and `cloudmap-dns-api`.
#[test]
fn variables_of_kubernetes_services_are_ignored() {
    let variables = [
        ("CLOUDMAP_DNS_SERVICE_HOST", "10.96.0.53"),
        ("CLOUDMAP_DNS_SERVICE_PORT", "53"),
        ("CLOUDMAP_DNS_SERVICE_PORT_DNS_UDP", "53"),
        ("CLOUDMAP_DNS_PORT", "udp://10.96.0.53:53"),
        ("CLOUDMAP_DNS_PORT_53_UDP", "udp://10.96.0.53:53"),
        ("CLOUDMAP_DNS_PORT_53_UDP_PROTO", "udp"),
        ("CLOUDMAP_DNS_PORT_53_UDP_PORT", "53"),
        ("CLOUDMAP_DNS_PORT_53_UDP_ADDR", "10.96.0.53"),
        ("CLOUDMAP_DNS_API_SERVICE_HOST", "10.96.0.54"),
        ("CLOUDMAP_DNS_API_PORT_5301_TCP_ADDR", "10.96.0.54"),
    ];
    assert_eq!(Case { variables: &variables, ..Case::default() }.load().unwrap(), Config::default());
    for setting in SETTINGS.iter() {
        assert!(!setting.variable.ends_with("_PORT") && !setting.variable.contains("_SERVICE_PORT"));
    }
}

#[test]
fn reference_has_a_row_for_every_setting() {
    let reference = settings_reference();
    for setting in SETTINGS.iter() {
        let row =
            reference.lines().find(|line| line.starts_with(&format!("| `--{} ", setting.flag))).unwrap();
        let cells = row.replace("\\|", "").matches('|').count();
        assert_eq!(cells, 6, "{row}");
        for part in [&setting.variable, &format!("`{}`", setting.key), &setting.meaning] {
            assert!(row.contains(part), "{row}");
        }
    }
    assert_eq!(reference.lines().count(), SETTINGS.len() + 3);
    assert!(reference.contains(
        "| `--log-format auto\\|text\\|json` | `CLOUDMAP_DNS_LOG_FORMAT` | `log.format` | `auto` |"
    ));
}
