//! Options from a file, and the options as a file.
//!
//! There is no second table: a line's name is a flag's name, and its value becomes the default of that flag.

use std::path::Path;

use clap::{Arg, ArgMatches, Command, parser::ValueSource};

/// Options that are about the file itself, or are asked once.
const NOT_IN_A_FILE: [&str; 5] = ["config", "check_config", "print_config", "help", "version"];

/// `command` with the values of `file` as defaults, and what is wrong with the file.
pub fn with_defaults_of(mut command: Command, file: &Path) -> (Command, Vec<String>) {
    let mut faults = Vec::new();
    let name = file.display();
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) => return (command, vec![format!("the configuration file {name} cannot be read: {error}")]),
    };
    let table: toml::Table = match text.parse() {
        Ok(table) => table,
        Err(error) => return (command, vec![format!("the configuration file {name} is not TOML: {}", error.to_string().trim())]),
    };
    for (key, value) in table {
        let id = key.replace('-', "_");
        if NOT_IN_A_FILE.contains(&id.as_str()) || !command.get_arguments().any(|argument| argument.get_id() == id.as_str()) {
            faults.push(format!("{key:?} in {name} is no option; `scouter-server serve --print-config` prints all of them"));
            continue;
        }
        let value = match value {
            toml::Value::String(text) => text,
            toml::Value::Integer(number) => number.to_string(),
            toml::Value::Boolean(is) => is.to_string(),
            other => {
                faults.push(format!("{key:?} in {name} is a {}; it is text, a whole number, true or false", other.type_str()));
                continue;
            }
        };
        // Once a process, for as long as it lives.
        let value: &'static str = value.leak();
        command = command.mut_arg(id, |argument| argument.default_value(value));
    }
    (command, faults)
}

/// All options and their values as a file, each with where its value comes from; secrets are hidden.
pub fn print(command: &Command, matches: &ArgMatches, file: Option<&Path>) -> String {
    let mut lines = String::new();
    for argument in command.get_arguments().filter(|argument| !NOT_IN_A_FILE.contains(&argument.get_id().as_str())) {
        let id = argument.get_id().as_str();
        let raw = matches.try_get_raw(id).ok().flatten().and_then(|mut values| values.next());
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        lines.push_str(&format!("# {help} ({})\n", origin(argument, matches, file)));
        let name = id.replace('_', "-");
        match raw {
            None => lines.push_str(&format!("# {name} =\n")),
            Some(_) if argument.is_hide_env_values_set() => lines.push_str(&format!("{name} = \"***\"\n")),
            Some(value) => lines.push_str(&format!("{name} = {}\n", toml::Value::String(value.to_string_lossy().into_owned()))),
        }
    }
    lines
}

fn origin(argument: &Arg, matches: &ArgMatches, file: Option<&Path>) -> String {
    let variable = argument.get_env().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    match matches.value_source(argument.get_id().as_str()) {
        Some(ValueSource::CommandLine) => "from the command line".to_owned(),
        Some(ValueSource::EnvVariable) => format!("from {variable}"),
        Some(_) => file.map_or_else(|| "the default".to_owned(), |file| format!("the default, or from {}", file.display())),
        None => "not set".to_owned(),
    }
}
