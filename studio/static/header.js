/** The header: signing out. Its links are plain ones. */

/** Signs out where the header's button is clicked, which Gradio draws later than this is called. */
export function signOutAtClick() {
  document.addEventListener("click", async (event) => {
    if (!event.target.closest?.("#sign-out")) return;
    await fetch("/ui/sign-out", { method: "POST" });
    location.assign("/ui/sign-in");
  });
}
