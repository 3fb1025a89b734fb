//! The command line: help for everything, and clear words for what cannot be.

use crate::support::TestServer;

/// What `--help` says of the command with these words, and of all below it.
async fn help(words: &[String], said: &mut Vec<(String, String)>) {
    let arguments: Vec<_> = words.iter().map(String::as_str).chain(["--help"]).collect();
    let done = TestServer::run(&arguments, &[]).await;
    assert!(done.status.success(), "{arguments:?}: {}", done.output);
    let listed = done.output.lines().skip_while(|line| *line != "Commands:").skip(1);
    let below: Vec<_> = listed.take_while(|line| !line.is_empty()).map(str::to_owned).collect();
    said.push((words.join(" "), done.output));
    for line in below {
        let (name, about) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
        assert!(!about.trim().is_empty(), "burble {} {name} does not say what it does", words.join(" "));
        if name != "help" {
            Box::pin(help(&[words, &[name.to_owned()]].concat(), said)).await;
        }
    }
}

#[tokio::test]
async fn every_command_has_help_and_is_completed() {
    let mut said = Vec::new();
    help(&[], &mut said).await;
    let names: Vec<_> = said.iter().map(|(name, _)| name.as_str()).collect();
    for name in [
        "serve",
        "check-config",
        "doctor",
        "migrate",
        "user add",
        "user password",
        "user disable",
        "channel list",
        "channel delete",
        "token issue",
        "token inspect",
        "backup",
        "restore",
        "version",
    ] {
        assert!(names.contains(&name), "there is no burble {name}: {names:?}");
    }
    for (name, text) in &said {
        assert!(text.contains("Usage: burble"), "burble {name}: {text}");
        assert!(text.contains("--json"), "burble {name}: {text}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let done = TestServer::run(&["completions", shell], &[]).await;
        assert!(done.status.success(), "{}", done.output);
        let words = names.iter().flat_map(|name| name.split(' '));
        let missing: Vec<_> = words.filter(|word| !done.output.contains(*word)).collect();
        assert!(missing.is_empty(), "{shell} does not complete {missing:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_asked_is_refused_with_a_clear_word_and_2() {
    for (arguments, word) in [
        (&["sevre"][..], "'serve'"),
        (&["serve", "now"], "unexpected argument 'now'"),
        (&["user"], "Usage: burble user"),
        (&["user", "add"], "<NAME>"),
        (&["user", "add", "Not A Name"], "invalid value 'Not A Name'"),
        (&["user", "list", "--limit", "0"], "0 is not in 1..=10000"),
        (&["channel", "delete", "tea"], "--yes"),
        (&["backup"], "<FOLDER>"),
        (&["doctor", "--idle", "90"], "--url"),
        (&["completions", "csh"], "possible values: bash"),
        (&["--config", "nowhere.toml", "check-config"], "nowhere.toml"),
    ] {
        let done = TestServer::run(arguments, &[]).await;
        assert_eq!(done.status.code(), Some(2), "{arguments:?}: {}", done.output);
        assert!(done.output.contains(word), "{arguments:?}: {}", done.output);
    }
    let done = TestServer::run(&["user", "list"], &[("SERVER_PORT", "many")]).await;
    assert_eq!(done.status.code(), Some(2), "{}", done.output);
    assert!(done.output.contains("SERVER_PORT") && done.output.contains("many"), "{}", done.output);
}

#[tokio::test]
async fn a_program_gets_one_json_document() {
    for arguments in [&["version"][..], &["check-config"], &["doctor"], &["migrate"]] {
        let done = TestServer::run(&[arguments, &["--json"]].concat(), &[]).await;
        let document: serde_json::Value = serde_json::from_str(&done.output)
            .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {}", done.output));
        assert!(document.is_object(), "{arguments:?}: {document}");
    }
}
