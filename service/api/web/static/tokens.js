// Tokens of each sentence, special tokens marked; ids on hover.
export function drawTokens(place, sentences, rows) {
  place.replaceChildren(...rows.map((tokens, row) => {
    const item = document.createElement("li");
    const chips = tokens.map((token) => {
      const chip = document.createElement("code");
      chip.textContent = token.text;
      chip.title = `id ${token.id}`;
      if (token.special) chip.className = "special";
      return chip;
    });
    const count = document.createElement("span");
    count.className = "count";
    count.textContent = `${tokens.length} tokens`;
    item.setAttribute("aria-label", `${sentences[row]}: ${tokens.length} tokens`);
    item.append(...chips, count);
    return item;
  }));
}
