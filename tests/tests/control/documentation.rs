//! The documentation, held against the server.

use rocinante_harness::control::client::Client;
use rocinante_harness::serve::{NicSpec, Server, ServerConfig};
use rocinante_tests::served::PATIENCE;
use serde_json::{Value, json};

use super::ask;

/// What the documentation shows is what the server does: each example is accepted, and each command and event is there.
#[test]
fn the_documentation_is_right() {
    let text = include_str!("../../../docs/control.md");
    let folder = tempfile::tempdir().unwrap();
    let text = text.replace("/tmp/", &format!("{}/", folder.path().display()));
    let nics = ["a", "b"].map(|name| NicSpec::new(folder.path().join(format!("{name}.sock"))));
    let server = Server::serve(ServerConfig {
        nics: nics.to_vec(),
        control: Some(folder.path().join("control.sock")),
        ..ServerConfig::default()
    })
    .unwrap();
    let mut client = Client::connect(&folder.path().join("control.sock"), PATIENCE).unwrap();
    let all = ask(&mut client, "query-commands", json!({}));
    let names = |list: &Value| -> Vec<String> {
        let list = list.as_array().unwrap().iter();
        list.map(|item| item["name"].as_str().or(item.as_str()).unwrap().to_owned())
            .collect()
    };
    for command in all["commands"].as_array().unwrap() {
        let name = command["name"].as_str().unwrap();
        let heading = format!("### {name}\n");
        let section = text
            .split(&heading)
            .nth(1)
            .unwrap_or_else(|| panic!("{name} is not described"));
        let section = section.split("\n#").next().unwrap();
        for argument in names(&command["arguments"]) {
            assert!(
                section.contains(&format!("`{argument}`")),
                "{argument} of {name}"
            );
        }
        assert!(
            section.contains(&format!("-> {{\"execute\": \"{name}\"")),
            "no example of {name}"
        );
    }
    for event in names(&all["events"]) {
        assert!(
            text.contains(&format!("`{event}`")),
            "{event} is not described"
        );
    }
    let mut examples = 0;
    for line in text.lines().map(str::trim) {
        if let Some(answer) = line.strip_prefix("<- ") {
            serde_json::from_str::<Value>(answer)
                .unwrap_or_else(|error| panic!("{answer}: {error}"));
        }
        let Some(request) = line.strip_prefix("-> ") else {
            continue;
        };
        let answer = client
            .request(serde_json::from_str(request).unwrap())
            .unwrap();
        // Nothing that could not be, at most something that cannot be here.
        let class = answer["error"]["class"].as_str();
        assert!(
            matches!(class, None | Some("Failed")),
            "{request}: {answer}"
        );
        examples += 1;
    }
    assert!(examples > all["commands"].as_array().unwrap().len());
    server.wait_for_quit();
    server.stop().unwrap();
}
