//! The demo's registry, asked over HTTP in both of its dialects.

#![allow(
    clippy::indexing_slicing,
    reason = "what a JSON value does not have is null, and fails the comparison"
)]

use anyhow::Result;
use deployer::demo::registry::{Behaviour, Dialect, Registry};
use reqwest::{Client, Response};
use serde_json::{Value, json};

#[tokio::test]
async fn droplets_are_added_found_and_changed() -> Result<()> {
    let registry = Registry::start(Dialect::Droplets).await?;
    let (http, url) = (client(), registry.url());
    let first = json!({"id": 14, "name": "shop", "steward": "ops", "endpoint": "http://h:1", "metadata": {"release": "a"}});
    let added = seen(http.post(format!("{url}/droplets")).json(&first).send().await?).await?;
    assert_eq!(
        (added.0, &added.1["droplet"]["id"], &added.1["droplet"]["name"]),
        (201, &json!(14), &json!("shop"))
    );

    assert_eq!(seen(http.post(format!("{url}/droplets")).json(&first).send().await?).await?.0, 409);
    let nameless =
        http.post(format!("{url}/droplets")).json(&json!({"endpoint": "http://h:2"})).send().await?;
    assert_eq!(nameless.status(), 422);
    let second = json!({"name": "blog", "steward": "ops", "endpoint": "http://h:2"});
    let added = seen(http.post(format!("{url}/droplets")).json(&second).send().await?).await?;
    assert_eq!((added.0, &added.1["droplet"]["id"]), (201, &json!(15)));

    let by_name = seen(http.get(format!("{url}/droplets/name/shop")).send().await?).await?;
    assert_eq!((by_name.0, &by_name.1["droplet"]["id"]), (200, &json!(14)));
    assert_eq!(http.get(format!("{url}/droplets/name/absent")).send().await?.status(), 404);
    assert_eq!(http.patch(format!("{url}/droplets/99")).json(&json!({})).send().await?.status(), 404);

    let change = json!({"endpoint": "http://h:3", "status": "inactive", "metadata": {"release": "b"}});
    assert_eq!(http.patch(format!("{url}/droplets/14")).json(&change).send().await?.status(), 200);
    let (_, changed) = seen(http.get(format!("{url}/droplets/name/shop")).send().await?).await?;
    let droplet = &changed["droplet"];
    assert_eq!(
        (&droplet["endpoint"], &droplet["status"], &droplet["metadata"]["release"], &droplet["steward"]),
        (&json!("http://h:3"), &json!("inactive"), &json!("b"), &json!("ops")),
    );

    // What is not documented is not there: neither other calls, nor other fields, nor the other dialect.
    assert_eq!(http.get(format!("{url}/droplets")).send().await?.status(), 405);
    assert_eq!(http.get(format!("{url}/droplets/14")).send().await?.status(), 405);
    let steward = json!({"steward": "ann"});
    assert_eq!(http.patch(format!("{url}/droplets/14")).json(&steward).send().await?.status(), 422);
    assert_eq!(http.post(format!("{url}/register")).json(&json!({})).send().await?.status(), 404);
    assert_eq!(http.get(format!("{url}/health")).send().await?.status(), 200);
    registry.stop().await;
    Ok(())
}

#[tokio::test]
async fn services_are_registered_and_registered_again() -> Result<()> {
    let registry = Registry::start(Dialect::Register).await?;
    let (http, url) = (client(), registry.url());
    let asked = json!({"droplet_id": 14, "service_name": "shop", "endpoint": "http://h:1", "release": "a"});
    let (status, first) = seen(http.post(format!("{url}/register")).json(&asked).send().await?).await?;
    assert_eq!((status, &first["droplet_id"], &first["release"]), (200, &json!(14), &json!("a")));
    assert!(first["registered_at"].is_string(), "{first}");

    let again = json!({"service_name": "shop", "endpoint": "http://h:2"});
    let (_, second) = seen(http.post(format!("{url}/register")).json(&again).send().await?).await?;
    assert_eq!((&second["droplet_id"], &second["endpoint"]), (&json!(14), &json!("http://h:2")));
    let (_, new) = seen(
        http.post(format!("{url}/register"))
            .json(&json!({"service_name": "blog", "endpoint": ""}))
            .send()
            .await?,
    )
    .await?;
    assert_eq!(new["droplet_id"], json!(15));

    // It cannot be asked.
    assert_eq!(http.get(format!("{url}/register/shop")).send().await?.status(), 404);
    assert_eq!(http.get(format!("{url}/droplets/name/shop")).send().await?.status(), 404);
    assert_eq!(http.post(format!("{url}/droplets")).json(&json!({})).send().await?.status(), 404);
    assert_eq!(http.get(format!("{url}/health")).send().await?.status(), 200);
    registry.stop().await;
    Ok(())
}

#[tokio::test]
async fn it_talks_nonsense_goes_down_and_comes_back_when_told() -> Result<()> {
    let registry = Registry::start(Dialect::Droplets).await?;
    let (http, url) = (client(), registry.url());
    registry.behave(Behaviour::Nonsense);
    let answer = http.post(format!("{url}/droplets")).json(&json!({"name": "shop"})).send().await?;
    assert_eq!(answer.status(), 200);
    assert!(answer.text().await?.starts_with("<html>"));
    registry.behave(Behaviour::Sound);
    assert_eq!(http.get(format!("{url}/droplets/name/shop")).send().await?.status(), 404);

    let port = registry.address().port();
    registry.stop().await;
    assert!(
        http.get(format!("{url}/health"))
            .send()
            .await
            .is_err_and(|error| error.is_connect() || error.is_request())
    );
    let back = Registry::start_on(Dialect::Droplets, port).await?;
    assert_eq!(http.get(format!("{url}/health")).send().await?.status(), 200);
    back.stop().await;
    Ok(())
}

fn client() -> Client {
    // The first test to get here installs it; that the others cannot is no error.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::new()
}

async fn seen(response: Response) -> Result<(u16, Value)> {
    Ok((response.status().as_u16(), response.json().await?))
}
