// Errors by kind: no answer, a refused request, an overloaded or starting server, a server error.
export class Failure extends Error {
  constructor(kind, title, message) {
    super(message);
    this.kind = kind;
    this.title = title;
  }
}

// fetch and reading a body throw a TypeError if the connection fails.
export async function reach(answer) {
  try {
    return await answer;
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    throw new Failure("network", "No answer", "The server cannot be reached.");
  }
}

export async function failureOf(response) {
  const body = await response.json().catch(() => ({}));
  const message = sentence(typeof body.error === "string" ? body.error : "the server gave no reason");
  const { status } = response;
  if (status === 429) {
    return new Failure("busy", "Too much at once (429)", `${message}${wait(response)}`);
  }
  if (status === 503) {
    return new Failure("busy", "Not ready (503)", `${message}${wait(response)}`);
  }
  if (status >= 500) {
    const id = response.headers.get("x-request-id");
    const place = id ? ` Its log has the request ${id}.` : "";
    return new Failure("server", `The server failed (${status})`, `${message}${place}`);
  }
  return new Failure("refused", `Refused (${status})`, message);
}

function sentence(text) {
  return text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
}

function wait(response) {
  const seconds = Number(response.headers.get("retry-after"));
  return seconds > 0 ? ` Try again in ${seconds} s.` : "";
}

export function tell(place, failure) {
  const known = failure instanceof Failure;
  const title = document.createElement("b");
  title.textContent = known ? failure.title : "The page failed";
  place.dataset.kind = known ? failure.kind : "page";
  place.replaceChildren(title, ` ${failure.message}`);
}

export function clear(place) {
  delete place.dataset.kind;
  place.replaceChildren();
}
