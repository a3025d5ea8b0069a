//! A browser, driven over the WebDriver protocol (<https://www.w3.org/TR/webdriver2/>): as much of it as
//! these tests use. A client library for it would bring twenty crates.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How long a page may take to show something, far above what it needs.
const PATIENCE: Duration = Duration::from_secs(60);
/// The key of an element's reference, by the protocol.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// Chromium with one window, and its driver.
pub(crate) struct Browser {
    driver: Child,
    port: u16,
    session: String,
}

impl Browser {
    /// Starts one; none where there is no chromedriver.
    pub(crate) fn start(profile: &Path) -> Option<Self> {
        let mut driver = Command::new("chromedriver")
            .args(["--port=0"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        // "ChromeDriver was started successfully on port 40123."
        let port = lines.find_map(|line| {
            let line = line.ok()?;
            line.rsplit_once("successfully on port ")?.1.trim_end_matches('.').parse().ok()
        });
        let port = port.expect("chromedriver names its port");
        // It must not be kept waiting for somebody who reads what it says.
        std::thread::spawn(move || lines.for_each(drop));
        let mut browser = Self { driver, port, session: String::new() };
        let mut arguments = vec![
            "--headless".to_owned(),
            "--disable-gpu".to_owned(),
            "--disable-quic".to_owned(),
            "--no-first-run".to_owned(),
            "--disable-background-networking".to_owned(),
            "--disable-component-update".to_owned(),
            "--disable-sync".to_owned(),
            format!("--user-data-dir={}", profile.display()),
        ];
        // Chromium does not start as root otherwise.
        arguments.push("--no-sandbox".to_owned());
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "acceptInsecureCerts": true,
            "goog:chromeOptions": { "args": arguments },
        } } });
        let made = browser.ask("POST", "/session", &wanted).unwrap();
        browser.session = made["sessionId"].as_str().expect("a session").to_owned();
        Some(browser)
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        let body = if method == "POST" { body.to_string() } else { String::new() };
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).map_err(|e| e.to_string())?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {length}\r\n\
             Content-Type: application/json\r\nConnection: close\r\n\r\n{body}"
        );
        stream.write_all(head.as_bytes()).map_err(|error| error.to_string())?;
        let body = answer(BufReader::new(stream)).map_err(|error| error.to_string())?;
        let value: Value = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
        match value["value"]["error"].as_str() {
            Some(error) => Err(format!("{error}: {}", value["value"]["message"])),
            None => Ok(value["value"].clone()),
        }
    }

    fn tell(&self, what: &str, body: &Value) -> Result<Value, String> {
        self.ask("POST", &format!("/session/{}/{what}", self.session), body)
    }

    pub(crate) fn open(&self, url: &str) {
        self.tell("url", &json!({ "url": url })).unwrap();
    }

    /// What a script comes to; `script` is a function's body.
    pub(crate) fn run(&self, script: &str) -> Value {
        self.tell("execute/sync", &json!({ "script": script, "args": [] })).unwrap()
    }

    /// The same, of a script that calls its last argument once it knows.
    pub(crate) fn run_async(&self, script: &str) -> Value {
        self.tell("execute/async", &json!({ "script": script, "args": [] })).unwrap()
    }

    /// Waits until a script comes to true.
    pub(crate) fn wait(&self, what: &str, script: &str) {
        let end = Instant::now() + PATIENCE;
        while self.run(script) != Value::Bool(true) {
            if Instant::now() > end {
                let text = self.run("return document.body.innerText");
                panic!("waited in vain until {what}; the page says: {text}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until the page's words have these.
    pub(crate) fn wait_for(&self, words: &str) {
        let words = Value::from(words);
        let script = format!("return document.body.innerText.includes({words})");
        self.wait(&words.to_string(), &script);
    }

    fn find(&self, css: &str) -> String {
        let found = self.tell("element", &json!({ "using": "css selector", "value": css }));
        let found = found.unwrap_or_else(|error| panic!("{css}: {error}"));
        found[ELEMENT].as_str().unwrap().to_owned()
    }

    /// As a mouse does.
    pub(crate) fn click(&self, css: &str) {
        let element = self.find(css);
        self.tell(&format!("element/{element}/click"), &json!({})).unwrap();
    }

    /// As a keyboard does, into this element.
    pub(crate) fn write(&self, css: &str, text: &str) {
        let element = self.find(css);
        self.tell(&format!("element/{element}/value"), &json!({ "text": text })).unwrap();
    }

    /// The window's size, in pixels, and whether the person prefers dark pages.
    pub(crate) fn look(&self, width: u32, dark: bool) {
        let size =
            json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false });
        let scheme = if dark { "dark" } else { "light" };
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        for (command, parameters) in
            [("Emulation.setDeviceMetricsOverride", size), ("Emulation.setEmulatedMedia", media)]
        {
            let body = json!({ "cmd": command, "params": parameters });
            self.tell("goog/cdp/execute", &body).unwrap();
        }
    }

    /// A picture of the whole page, for people, as a PNG in base64.
    pub(crate) fn picture(&self) -> String {
        let body = json!({
            "cmd": "Page.captureScreenshot", "params": { "captureBeyondViewport": true },
        });
        let picture = self.tell("goog/cdp/execute", &body).unwrap();
        picture["data"].as_str().unwrap().to_owned()
    }
}

/// The body of an answer: the driver does not hang up at its end.
fn answer(mut stream: BufReader<TcpStream>) -> std::io::Result<Vec<u8>> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        match line.trim_end().split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.trim().parse().unwrap();
            }
            Some(_) => {}
            None if line.trim_end().is_empty() => break,
            // The first one.
            None => {}
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok(body)
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() {
            let _ = self.ask("DELETE", &format!("/session/{}", self.session), &Value::Null);
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
