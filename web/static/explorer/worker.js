// A worker that turns latent vectors into pictures.

import { createGenerator } from "./kernel.js";

let generator;

self.onmessage = async ({ data: message }) => {
  if (message.kernel) {
    try {
      generator = await createGenerator(message.kernel, message.weights);
      self.postMessage({ ready: true });
    } catch (error) {
      self.postMessage({ error: String(error.message || error) });
    }
    return;
  }
  const pixels = generator.run(message.z);
  self.postMessage({ id: message.id, pixels }, [pixels.buffer]);
};
