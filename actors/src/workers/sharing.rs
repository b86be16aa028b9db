//! What instances tell each other of their workers.

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::worker::News;
use super::{State, Workers};

impl Workers {
    /// What is to be told to other instances, from now on.
    #[must_use]
    pub fn news(&self) -> UnboundedReceiver<News> {
        let (sender, receiver) = unbounded_channel();
        self.lock().news = Some(sender);
        receiver
    }

    /// Whether what other instances tell is heard.
    pub fn set_relay(&self, is_up: bool) {
        let now = self.elapsed();
        if self.lock().elsewhere.set_up(is_up, now) {
            // Nobody knows any more what is served nowhere.
            self.0.bell.notify_one();
        }
    }

    /// What this instance, called `node`, serves now.
    #[must_use]
    pub fn serving(&self, node: &str) -> News {
        News::Serving {
            node: node.to_owned(),
            functions: self.lock().roster.serving(),
        }
    }

    /// Another instance has told this.
    pub fn learn(&self, news: News) {
        let now = self.elapsed();
        let mut state = self.lock();
        match news {
            News::Extended { id, before, held, .. } => state.requests.extended(id, before, held, now),
            News::Answered { id, answer } => {
                state.requests.answer(id, answer, now);
                state.give_places_back();
            }
            News::Serving { node, functions } => {
                if state.elsewhere.learn(node, functions, now) {
                    self.0.bell.notify_one();
                }
            }
        }
    }
}

impl State {
    /// Passes news on, if anybody does.
    pub(super) fn tell(&self, news: News) {
        if let Some(sender) = &self.news {
            // Whoever passed it on has ended with the server.
            let _ = sender.send(news);
        }
    }
}
