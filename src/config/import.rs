//! Converts the `config.json` of the replaced product into our configuration file. That file has four keys: the port, the
//! interval of the statistics, `log.enabled` and `log.level`.

use serde_json::{Map, Value};

use super::value::Given;
use super::{Config, SETTINGS};

/// Our configuration file with the settings of `json`. A setting that cannot be converted remains as a comment.
///
/// # Errors
/// A sentence, if `json` is not a JSON object.
pub(crate) fn convert(json: &str) -> Result<String, String> {
    let value: Value = serde_json::from_str(json).map_err(|error| {
        format!("line {}, column {}: the file is not valid JSON: {error}", error.line(), error.column())
    })?;
    let Value::Object(given) = value else {
        return Err("the file is not a configuration: it must hold one JSON object".to_owned());
    };
    let mut lines = Lines { config: Config::default(), text: String::new() };
    for (key, value) in &given {
        match (key.as_str(), value) {
            ("port", value) => lines.integer("port", "port", value),
            ("stats_interval_sec", value) => lines.integer("stats_interval_s", "stats_interval_sec", value),
            ("log", Value::Object(log)) => lines.log(log),
            (key, value) => lines.not_taken_over(key, value),
        }
    }
    Ok(lines.text)
}

struct Lines {
    config: Config,
    text: String,
}

impl Lines {
    fn log(&mut self, log: &Map<String, Value>) {
        let enabled = log.get("enabled").and_then(Value::as_bool);
        for (key, value) in log {
            match (key.as_str(), value) {
                ("enabled", Value::Bool(true)) => {}
                ("enabled", Value::Bool(false)) => {
                    self.setting("log_level", "log.enabled", "off".to_owned(), value);
                }
                // The level of a disabled log has no effect.
                ("level", Value::String(_)) if enabled == Some(false) => {}
                ("level", Value::String(word)) => {
                    self.setting("log_level", "log.level", word.to_ascii_lowercase(), value);
                }
                (key, value) => self.not_taken_over(&format!("log.{key}"), value),
            }
        }
    }

    fn integer(&mut self, key: &str, their_key: &str, value: &Value) {
        if value.is_u64() {
            self.setting(key, their_key, value.to_string(), value);
        } else {
            self.not_taken_over(their_key, value);
        }
    }

    fn setting(&mut self, key: &str, their_key: &str, text: String, value: &Value) {
        let setting = SETTINGS.iter().find(|setting| setting.key == key).expect("one of our own keys");
        if (setting.store)(&mut self.config, &Given::Flag(&[text])) {
            self.text.extend([key, " = ", &(setting.render)(&self.config), "\n"]);
        } else {
            self.not_taken_over(their_key, value);
        }
    }

    fn not_taken_over(&mut self, key: &str, value: &Value) {
        // JSON values contain no raw line breaks, so a value stays within one comment. Keys are escaped, because they
        // can contain line breaks. JSON allows a raw U+007F, which TOML forbids in comments.
        self.text.extend([
            "# not imported: ",
            &key.escape_debug().to_string(),
            " = ",
            &value.to_string().replace('\u{7f}', "\\u007f"),
            "\n",
        ]);
    }
}
