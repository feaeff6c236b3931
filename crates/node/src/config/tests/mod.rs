//! The configuration from the outside: arguments, variables and files in, values out.

mod layers;
mod mistakes;
mod output;
mod rules;
mod secrets;
mod values;

use std::{
    ffi::OsString,
    fs,
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
};

use super::{Action, Config, ConfigError, Loaded, load::load_with};

/// A file that is gone when the test is over.
struct File(PathBuf);

impl File {
    fn new(text: &str) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("pollux-config-{}-{count}.toml", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::write(&path, text).unwrap();
        Self(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        fs::remove_file(&self.0).unwrap();
    }
}

fn load_all(args: &[&str], env: &[(&str, &str)], file: &str) -> Result<Loaded, ConfigError> {
    let file = File::new(file);
    let args = ["pollux"].iter().chain(args).map(OsString::from);
    let env = env.iter().map(|&(k, v)| (k.to_owned(), v.to_owned()));
    load_with(args, env, std::slice::from_ref(&file.0))
}

fn config(args: &[&str], env: &[(&str, &str)], file: &str) -> Config {
    match load_all(args, env, file) {
        Ok(loaded) => loaded.config,
        Err(error) => panic!("{error}"),
    }
}

fn errors(args: &[&str], env: &[(&str, &str)], file: &str) -> Vec<String> {
    let error = load_all(args, env, file).expect_err("an invalid configuration");
    error.problems().iter().map(ToString::to_string).collect()
}

fn error(args: &[&str], env: &[(&str, &str)], file: &str) -> String {
    let errors = errors(args, env, file);
    assert_eq!(errors.len(), 1, "{errors:?}");
    errors.concat()
}

fn printed(args: &[&str], env: &[(&str, &str)], file: &str) -> String {
    let args = [&["--print-config"], args].concat();
    match load_all(&args, env, file).map(|loaded| loaded.action) {
        Ok(Action::PrintConfig(text)) => text,
        other => panic!("{other:?}"),
    }
}
