"""A notebook's kernel that is interrupted while it trains."""

from pathlib import Path

from jupyter_client.manager import start_new_kernel

ROOT = Path(__file__).resolve().parents[2]
TRAIN_FOREVER = """
import torch
from IPython.display import display
from torch.utils.data import DataLoader
from ch07.visualization.captioned_figure import CaptionedFigure
from collate import custom_collate_fn
from gpt_model import GPTModel
from train_loop import TrainSettings, TrainState, make_optimizer, plot_losses, train_model

shape = {"vocab_size": 50257, "context_length": 8, "emb_dim": 8, "n_heads": 2, "n_layers": 1}
model, history, state = GPTModel(shape), [], TrainState()
optimizer = make_optimizer(model.parameters())
loader = DataLoader([[1, 2, 3]] * 4, 2, collate_fn=custom_collate_fn)
place = display("the plot will be here", display_id="loss")


def on_eval(record):
    history.append(record)
    columns = [[r[n] for r in history] for n in ("epoch", "tokens_seen", "train_loss", "val_loss")]
    place.update(CaptionedFigure(plot_losses(*columns), f"{len(history)} points"))


settings = TrainSettings(num_epochs=10**9, eval_freq=5)
train_model(model, loader, loader, optimizer, settings=settings, state=state, on_eval=on_eval)
"""


def test_an_interrupted_kernel_keeps_its_plot_and_history():
    """The notebook's own way to draw; "interrupt the kernel" while it trains without an end."""
    manager, client = start_new_kernel(cwd=str(ROOT))
    try:
        request, plots = client.execute(TRAIN_FOREVER), []
        while len(plots) < 3:
            message = client.get_iopub_msg(timeout=60)
            assert message["msg_type"] != "error", message["content"]
            if message["msg_type"] == "update_display_data":
                plots.append(message["content"]["data"])
        manager.interrupt_kernel()
        reply = client.get_shell_msg(timeout=60)
        while reply["parent_header"]["msg_id"] != request:
            reply = client.get_shell_msg(timeout=60)
        assert reply["content"]["ename"] == "KeyboardInterrupt"
        assert "image/png" in plots[-1], "what was drawn stays in the notebook"
        after = "assert len(history) >= 3 and state.history == history, (len(history), state)\n"
        after += "assert model.training\n"
        after += "train_model(model, loader, loader, optimizer, settings=TrainSettings())"
        status = "aborted"  # what comes right after an error, since it may have been queued before
        while status == "aborted":
            reply = client.execute_interactive(after, timeout=60, output_hook=lambda message: None)
            status = reply["content"]["status"]
        assert reply["content"]["status"] == "ok", reply["content"]
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
