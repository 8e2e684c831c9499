//! The rows of `crds/tests/cel`, validated by a real API server: it gives the results that the tables expect.

use serde::Deserialize;
use serde_json::Value;

use crate::harness::api_server::ApiServer;
use crate::harness::objects::Space;
use crate::harness::{documents, repository};

/// One row of a table in `crds/tests/cel`.
#[derive(Debug, Deserialize)]
struct Row {
    name: String,
    object: Value,
    /// The object that `object` replaces; absent when it is created.
    #[serde(default)]
    old: Option<Value>,
    /// A part of the error; absent when the object is accepted.
    #[serde(default)]
    error: Option<String>,
}

#[tokio::test]
async fn the_api_server_validates_every_row_as_the_table_expects() -> anyhow::Result<()> {
    let server = ApiServer::shared().await?;
    let space = Space::new(server.client().await?, "cel").await?;
    let mut rows: Vec<Row> = Vec::new();
    for document in documents("crds/tests/cel")? {
        let found: Vec<Row> = match document {
            Value::Array(_) => serde_json::from_value(document)?,
            one => vec![serde_json::from_value(one)?],
        };
        rows.extend(found);
    }
    assert!(rows.iter().any(|row| row.error.is_some()) && rows.iter().any(|row| row.error.is_none()));
    assert!(rows.iter().any(|row| row.old.is_some()));
    let mut wrong = Vec::new();
    for mut row in rows {
        if row.object["metadata"]["name"].is_null() {
            row.object["metadata"]["name"] = "row".into();
        }
        let response = match &row.old {
            Some(old) => space.try_replace(old, &row.object).await?,
            None => space.try_create(&row.object).await?,
        };
        match (response, row.error) {
            (Ok(_), None) => {}
            (Ok(_), Some(error)) => wrong.push(format!("{}: accepted, expected the error {error:?}", row.name)),
            (Err(error), None) => wrong.push(format!("{}: rejected: {error}", row.name)),
            (Err(error), Some(expected)) => {
                if !error.to_string().contains(&expected) {
                    wrong.push(format!("{}: expected the error {expected:?}, got: {error}", row.name));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[tokio::test]
async fn the_api_server_accepts_every_object_of_the_examples() -> anyhow::Result<()> {
    let server = ApiServer::shared().await?;
    let space = Space::new(server.client().await?, "examples").await?;
    let mut count = 0;
    for entry in std::fs::read_dir(repository().join("examples"))? {
        let folder = entry?.file_name().to_string_lossy().into_owned();
        for object in documents(&format!("examples/{folder}"))? {
            let response = space.try_create(&object).await?;
            assert!(response.is_ok(), "{folder}, {} {}: {response:?}", object["kind"], object["metadata"]["name"]);
            count += 1;
        }
    }
    assert!(count > 10, "only {count} objects in the examples");
    Ok(())
}
