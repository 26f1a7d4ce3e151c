// Runs before the first paint (a classic script in the head), so that a chosen theme never flashes the other one.
try {
  const theme = localStorage.getItem("neuron-atlas.theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // storage is switched off: the system's theme stands
}
