//! The definition of the commands and their flags. The flags of settings are generated from the table in [`crate::config`].

use std::collections::BTreeMap;

use clap::builder::{PossibleValue, StringValueParser, TypedValueParser, ValueParser};
use clap::{Arg, ArgAction, ArgMatches, Command, ValueHint, value_parser};
use clap_complete::Shell;

use super::environment::Dialect;
use crate::config::{CONFIG_FLAG, CONFIG_MEANING, Config, SETTINGS, Setting, VARIABLE_PREFIX};

const ABOUT: &str = "An authoritative DNS server and complete API for AWS Cloud Map service discovery";

const AFTER: &str = "\
A setting can be given by its flag, by its environment variable or in the settings file.
The first of these that has it counts, then the default.

Examples:
  cloudmap-dns                              serve on 127.0.0.1, with data in .cloudmap-dns
  cloudmap-dns --config cloudmap-dns.toml
  cloudmap-dns serve --dns 0.0.0.0:53 --dns [::]:53 --zones /etc/zones
  cloudmap-dns check --config cloudmap-dns.toml
  eval \"$(cloudmap-dns env)\"                point this shell's AWS CLI and SDKs to it
  cloudmap-dns explain web.shop.local SRV   why it answers as it does
  cloudmap-dns history web.shop.local       what changed its health
  cloudmap-dns maintenance on web-1         takes an instance out

Exit codes: 0 done, 1 failed, 2 wrong arguments or settings.";

/// Returns the definition of the whole command line, from which `--help`, completions and the manual page are generated.
pub fn command() -> Command {
    let serve = Command::new("serve").about("Serve DNS and the Cloud Map API; the default command");
    let check = Command::new("check")
        .about("Check the settings and the zone files, and print every error")
        .after_help("Exit code 0 if all is right, 1 if not.");
    let environment = Command::new("env")
        .about("Print what points the AWS CLI and SDKs of a shell to the server")
        .arg(
            Arg::new("shell")
                .long("shell")
                .value_name("SHELL")
                .value_parser(value_parser!(Dialect))
                .default_value("sh")
                .help("Whose syntax to use; sh also fits bash and zsh"),
        )
        .after_help("Examples:\n  eval \"$(cloudmap-dns env)\"\n  cloudmap-dns env --shell fish | source");
    let explain = Command::new("explain")
        .about("Ask the running server how it answers a question, and why")
        .arg(Arg::new("name").value_name("NAME").required(true).help("The name asked for"))
        .arg(Arg::new("type").value_name("TYPE").default_value("A").help("The record type asked for"));
    let zone = Command::new("zone")
        .about("Print a zone of the running server as a zone file")
        .arg(Arg::new("name").value_name("NAME").required(true).help("The zone's name"));
    let history = Command::new("history")
        .about("Print the last changes of health of a service's instances, and their causes")
        .arg(Arg::new("name").value_name("NAME").required(true).help("The full name of the service"));
    let maintenance = Command::new("maintenance")
        .about("Take an instance out of all answers, or let it back in")
        .arg(
            Arg::new("state")
                .value_name("on|off")
                .required(true)
                .value_parser(["on", "off"])
                .hide_possible_values(true)
                .help("On until it is lifted with off"),
        )
        .arg(Arg::new("instance").value_name("INSTANCE").required(true).help("The id of the instance"))
        .arg(
            Arg::new("service").long("service").value_name("NAME").help(
                "The service's name, full name, id or ARN; only needed if several have such an instance",
            ),
        )
        .arg(
            Arg::new("reason")
                .long("reason")
                .value_name("TEXT")
                .help("The reason, which explain and history show"),
        )
        .after_help("Example:\n  cloudmap-dns maintenance on web-1 --service backend --reason 'disk swap'");
    let export = Command::new("export")
        .about("Print everything that the store holds, a line of JSON for each object")
        .after_help("The embedded store has to be free: stop its server first.");
    let import = Command::new("import")
        .about("Read the lines of an export from standard input into an empty store")
        .after_help(
            "Ids, operations and revisions stay. Start the servers of the store afterwards.\n\nExample:\n  \
             cloudmap-dns export > all.jsonl\n  \
             cloudmap-dns import --store kubernetes --kubeconfig kubeconfig < all.jsonl",
        );
    let stores = ["account-id", "data-dir", "kubeconfig", "region", "store", "store-namespace"];
    let completions = Command::new("completions").about("Print a shell's completion script").arg(
        Arg::new("shell")
            .value_name("SHELL")
            .required(true)
            .value_parser(value_parser!(Shell))
            .help("The shell"),
    );
    let man = Command::new("man").about("Print the manual page");

    let root = Command::new("cloudmap-dns").about(ABOUT).version(env!("CARGO_PKG_VERSION")).after_help(AFTER);
    with_settings(root, |_| true)
        .subcommand(with_settings(serve, |_| true))
        .subcommand(with_settings(check, |_| true))
        .subcommand(with_settings(environment, |setting| ["api", "region"].contains(&setting.flag)))
        .subcommand(with_settings(explain, |setting| setting.flag == "admin"))
        .subcommand(with_settings(history, |setting| setting.flag == "admin"))
        .subcommand(with_settings(maintenance, |setting| setting.flag == "api"))
        .subcommand(with_settings(zone, |setting| setting.flag == "admin"))
        .subcommand(with_settings(export, |setting| stores.contains(&setting.flag)))
        .subcommand(with_settings(import, |setting| stores.contains(&setting.flag)))
        .subcommand(completions)
        .subcommand(man)
}

/// Returns the values of all given flags of settings, and of `--config`, by the name of the flag.
pub(super) fn flags(matches: &ArgMatches) -> BTreeMap<String, Vec<String>> {
    let names = SETTINGS.iter().map(|setting| setting.flag).chain([CONFIG_FLAG]);
    let given = names.filter_map(|flag| {
        // `try_get_many` fails for flags that this command does not have.
        let values = matches.try_get_many::<String>(flag).ok().flatten()?;
        Some((flag.to_string(), values.cloned().collect()))
    });
    given.collect()
}

fn with_settings(command: Command, uses: impl Fn(&Setting) -> bool) -> Command {
    let defaults = Config::default();
    let config = Arg::new(CONFIG_FLAG)
        .long(CONFIG_FLAG)
        .value_name("FILE")
        .value_hint(ValueHint::FilePath)
        .help(format!("{CONFIG_MEANING} [env: {VARIABLE_PREFIX}CONFIG]"));
    let settings =
        SETTINGS.iter().filter(|setting| uses(setting)).map(|setting| argument(setting, &defaults));
    command.arg(config).args(settings)
}

fn argument(setting: &'static Setting, defaults: &Config) -> Arg {
    let mut help = setting.meaning.clone();
    if setting.takes_many() {
        help.push_str("; may be repeated");
    }
    let default = setting.value_in(defaults);
    if !default.is_empty() {
        help.push_str(&format!(" [default: {default}]"));
    }
    help.push_str(&format!(" [env: {}]", setting.variable));
    let hint = if setting.placeholder == "DIR" { ValueHint::DirPath } else { ValueHint::Unknown };
    Arg::new(setting.flag)
        .long(setting.flag)
        .value_name(setting.placeholder.as_str())
        .value_hint(hint)
        .value_parser(ValueParser::new(Unchecked { words: &setting.words }))
        .hide_possible_values(true)
        .action(if setting.takes_many() { ArgAction::Append } else { ArgAction::Set })
        .help_heading(setting.heading)
        .help(help)
}

/// A value parser that accepts any text, because flags are validated together with the other sources of settings, to report
/// all errors at once. The words are offered by shell completions.
#[derive(Clone)]
struct Unchecked {
    words: &'static [&'static str],
}

impl TypedValueParser for Unchecked {
    type Value = String;

    fn parse_ref(
        &self,
        command: &Command,
        argument: Option<&Arg>,
        value: &std::ffi::OsStr,
    ) -> Result<String, clap::Error> {
        StringValueParser::new().parse_ref(command, argument, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let words = self.words.iter().map(|word| PossibleValue::new(*word));
        (!self.words.is_empty()).then(|| Box::new(words) as Box<dyn Iterator<Item = PossibleValue>>)
    }
}
