// The page's side of the worker: a question is a promise of its answer.

export class Engine {
  // source: the worker's program. It starts from memory, because a page that was opened as a file may load nothing.
  constructor(source) {
    this.waiting = new Map();
    this.number = 0;
    this.worker = new Worker(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
    this.worker.onmessage = ({ data }) => this.settle(data);
    this.worker.onerror = (event) => this.fail(event.message || "this browser does not let the page start a worker");
  }

  ask(kind, content = {}, transfer = []) {
    const number = this.number++;
    return new Promise((resolve, reject) => {
      this.waiting.set(number, { resolve, reject });
      this.worker.postMessage({ number, kind, content }, transfer);
    });
  }

  settle({ number, result, problem, isLost }) {
    const { resolve, reject } = this.waiting.get(number);
    this.waiting.delete(number);
    if (problem === undefined) resolve(result);
    else reject(Object.assign(new Error(problem), { isLost }));
  }

  fail(why) {
    for (const { reject } of this.waiting.values()) reject(new Error(why));
    this.waiting.clear();
  }
}
